cwlVersion: v1.1
$namespaces:
    any: https://calrissian-cwl.github.io/schema#
class: CommandLineTool
# Indented by four, lists at the key.
requirements:
- class: DockerRequirement
  dockerPull: example.org/tool:2
- class: EnvVarRequirement
  envDef:
  - envName: MODE
    envValue: fast
  - envName: DASK_CLAIM
    envValue: |-
      {
        "image": "tool:eb7fe8f1",
        "worker_cores": 0.5,
        "worker_memory": "4 G",
        "min_cores": 4,
        "max_cores": 10,
        "env": {
          "worker_cores": "DASK_WORKER_CORES",
          "gateway_url": "DASK_GATEWAY_URL"
        },
        "local_cores": $(runtime.cores),
        "local_memory": "$(runtime.ram) Mi"
      }
- class: NetworkAccess
  networkAccess: true
temporaryFailCodes: [75]
baseCommand: [dask-claim, --, tool]
successCodes: [0, 70]
permanentFailCodes: [64, 78, 124, 126, 127]
inputs:
- id: scene
  type: string
  inputBinding: {}
outputs: []
