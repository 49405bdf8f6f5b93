cwlVersion: v1.2
$namespaces:
  dg: "https://calrissian-cwl.github.io/schema#"
$graph:
  - class: CommandLineTool
    id: one
    requirements:
      EnvVarRequirement:
        envDef:
          MODE: fast
          DASK_CLAIM: |-
            {
              "max_workers": 1,
              "local_cores": $(runtime.cores),
              "local_memory": "$(runtime.ram) Mi"
            }
      NetworkAccess:
        networkAccess: true
    temporaryFailCodes: [75]
    permanentFailCodes: [64, 70, 78, 124, 126, 127]
    baseCommand: [dask-claim, --, echo, one]
    inputs: []
    outputs: []
  - class: CommandLineTool
    id: two
    requirements:
      EnvVarRequirement:
        envDef:
          MODE: fast
      NetworkAccess:
        networkAccess: true
    baseCommand: [echo, one]
    inputs: []
    outputs: []
  - class: CommandLineTool
    id: three
    requirements:
      EnvVarRequirement:
        envDef:
          MODE: fast
          DASK_CLAIM: |-
            {
              "max_workers": 1,
              "local_cores": $(runtime.cores),
              "local_memory": "$(runtime.ram) Mi"
            }
      NetworkAccess:
        networkAccess: true
    temporaryFailCodes: [75]
    permanentFailCodes: [64, 70, 78, 124, 126, 127]
    baseCommand: [dask-claim, --, echo, one]
    inputs: []
    outputs: []
