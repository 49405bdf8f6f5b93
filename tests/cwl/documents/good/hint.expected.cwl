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
          }
        }
  NetworkAccess:
    networkAccess: true
hints:
  DockerRequirement:
    dockerPull: example.org/tool:2
  https://calrissian-cwl.github.io/schema#DaskGatewayRequirement:
    cores_min:
      value: 4
    cores_max: {value: 10}
    worker_cores:
      name: DASK_WORKER_CORES
      value: 0.5
    gateway_url:
      name: DASK_GATEWAY_URL
  EnvVarRequirement:
    envDef: {MODE: fast}
temporaryFailCodes: [75]
permanentFailCodes: [64, 70, 78, 126, 127]
baseCommand: [dask-claim, --]
arguments: [echo, $(inputs.scene)]
inputs:
  scene: string
outputs: []
