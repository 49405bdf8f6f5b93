cwlVersion: v1.2
class: CommandLineTool
doc: The claim and the image are hints; there is no baseCommand.
requirements:
  EnvVarRequirement:
    envDef:
      MODE: fast
      DASK_CLAIM: |-
        {
          "image": "example.org/tool:2",
          "worker_cores": 0.5,
          "min_cores": 4,
          "max_cores": 10,
          "env": {
            "worker_cores": "DASK_WORKER_CORES",
            "gateway_url": "DASK_GATEWAY_URL"
          },
          "local_cores": $(runtime.cores),
          "local_memory": "$(runtime.ram) Mi"
        }
  NetworkAccess:
    networkAccess: true
hints:
  DockerRequirement:
    dockerPull: example.org/tool:2
  EnvVarRequirement:
    envDef: {MODE: fast}
temporaryFailCodes: [75]
permanentFailCodes: [64, 70, 78, 124, 126, 127]
baseCommand: [dask-claim, --]
arguments: [echo, $(inputs.scene)]
inputs:
  scene: string
outputs: []
