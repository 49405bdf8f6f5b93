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
          }
        }
- class: NetworkAccess
  networkAccess: true
temporaryFailCodes: [75]
hints:
# The claim of the developer.
- class: any:DaskGatewayRequirement
  EnvVarRequirement:
      worker_cores: DASK_WORKER_CORES
      gateway_url: DASK_GATEWAY_URL
  RuntimeRequirement:
      min_cores: 4
      max_cores: 10
      worker_cores: 0.5
      worker_memory: "4 G"
      image: "tool:eb7fe8f1"
baseCommand: [dask-claim, --, tool]
successCodes: [0, 70]
permanentFailCodes: [64, 78, 126, 127]
inputs:
- id: scene
  type: string
  inputBinding: {}
outputs: []
