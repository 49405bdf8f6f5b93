cwlVersion: v1.2
$namespaces:
  dg: https://calrissian-cwl.github.io/schema#
  other: https://example.org/#
$graph:
# Everything here claims, unless it says otherwise itself.
- class: Workflow
  id: main
  requirements:
  - class: SubworkflowFeatureRequirement
  inputs:
    n: int
  outputs: []
  steps:
  - id: same
    run:
      class: CommandLineTool
      requirements:
        EnvVarRequirement:
          envDef:
            MODE: fast
            DASK_CLAIM: |-
              {
                "worker_cores": 1,
                "max_cores": 4,
                "local_cores": $(runtime.cores),
                "local_memory": "$(runtime.ram) Mi"
              }
        NetworkAccess:
          networkAccess: true
      temporaryFailCodes: [75]
      permanentFailCodes: [64, 70, 78, 124, 126, 127]
      baseCommand: [dask-claim, --, echo]
      inputs: {n: int}
      outputs: []
    in: {n: n}
    out: []
  - id: other   # one that differs
    run:
      class: CommandLineTool
      requirements:
        EnvVarRequirement:
          envDef:
            MODE: fast
            DASK_CLAIM: |-
              {
                "worker_cores": 1,
                "max_workers": $(inputs.n),
                "local_cores": $(runtime.cores),
                "local_memory": "$(runtime.ram) Mi"
              }
        NetworkAccess:
          networkAccess: true
      temporaryFailCodes: [75]
      permanentFailCodes: [64, 70, 78, 124, 126, 127]
      baseCommand: [dask-claim, --, echo]
      inputs: {n: int}
      outputs: []
    in: {n: n}
    out: []
  # Its own requirement holds.
  - id: own
    run: "#own"
    in: {n: n}
    out: []
  - id: files
    run:
      class: Workflow
      inputs: {n: int}
      outputs: []
      steps:
        a:
          run:
            class: CommandLineTool
            requirements:
            - class: EnvVarRequirement
              envDef:
                DASK_CLAIM: |-
                  {
                    "image": "example.org/inner:1",
                    "worker_cores": 1,
                    "max_cores": 4,
                    "local_cores": $(runtime.cores),
                    "local_memory": "$(runtime.ram) Mi"
                  }
            - class: NetworkAccess
              networkAccess: true
            hints:
            - class: DockerRequirement
              dockerPull: example.org/inner:1
            temporaryFailCodes: [75]
            permanentFailCodes: [64, 70, 78, 124, 126, 127]
            baseCommand: [dask-claim, --]
            arguments: [echo, $(inputs.n)]
            inputs: {n: int}
            outputs: []
          in: {n: n}
          out: []
        b:
          run:
            class: CommandLineTool
            requirements:
              InitialWorkDirRequirement:
                listing:
                - entryname: words.txt
                  entry: {$include: parts/deeper/words.txt}
              EnvVarRequirement:
                envDef:
                  DASK_CLAIM: |-
                    {
                      "worker_cores": 1,
                      "max_cores": 4,
                      "local_cores": $(runtime.cores),
                      "local_memory": "$(runtime.ram) Mi"
                    }
              NetworkAccess:
                networkAccess: true
            temporaryFailCodes: [75]
            permanentFailCodes: [64, 70, 78, 124, 126, 127]
            baseCommand: [dask-claim, --, cat, words.txt] # from its own folder
            inputs:
              n: int
              more:
                type: File
                default:
                  class: File
                  location: parts/deeper/words.txt
            outputs: []
          in: {n: n}
          out: []
    in: {n: n}
    out: []
  - id: inline
    run:
      class: ExpressionTool
      requirements: {InlineJavascriptRequirement: {}}
      inputs: {n: int}
      outputs: {m: int}
      expression: "${ return {m: inputs.n}; }"
    in: {n: n}
    out: [m]
- class: CommandLineTool
  id: shared
  requirements:
    EnvVarRequirement:
      envDef:
        MODE: fast
  baseCommand: echo
  inputs: {n: int}
  outputs: []
- class: CommandLineTool
  id: own
  requirements:
    EnvVarRequirement:
      envDef:
        DASK_CLAIM: |-
          {
            "max_workers": 2,
            "local_cores": $(runtime.cores),
            "local_memory": "$(runtime.ram) Mi"
          }
    NetworkAccess:
      networkAccess: true
  temporaryFailCodes: [75]
  permanentFailCodes: [64, 70, 78, 124, 126, 127]
  baseCommand: [dask-claim, --, echo]
  inputs: {n: int}
  outputs: []
