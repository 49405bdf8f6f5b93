cwlVersion: v1.1
$graph:
- class: CommandLineTool
  id: one
  requirements:
    EnvVarRequirement:
      envDef:
        DASK_CLAIM: |-
          {
            "max_workers": 1,
            "local_cores": $(runtime.cores),
            "local_memory": "$(runtime.ram) Mi"
          }
    NetworkAccess:
      networkAccess: true
  temporaryFailCodes: [75]
  # The author's own.
  permanentFailCodes: [3, 64, 70, 78, 124, 126, 127]
  baseCommand: [dask-claim, --, echo]
  inputs: []
  outputs: []
- class: CommandLineTool
  id: other
  requirements:
    EnvVarRequirement:
      envDef:
        DASK_CLAIM: |-
          {
            "max_workers": 2,
            "local_cores": $(runtime.cores),
            "local_memory": "$(runtime.ram) Mi"
          }
    NetworkAccess: {networkAccess: false}
  temporaryFailCodes: [75]
  permanentFailCodes: [64, 70, 78, 124, 126, 127]
  baseCommand: [dask-claim, --, echo]
  inputs: []
  outputs: []
