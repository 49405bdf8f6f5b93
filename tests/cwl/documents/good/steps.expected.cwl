cwlVersion: v1.2
$namespaces:
  dg: https://calrissian-cwl.github.io/schema#
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
    run: "#shared"
    in: {n: n}
    out: []
  - id: again   # the same claim, said at the step
    run: "#shared"
    in: {n: n}
    out: []
  # Its own requirement holds.
  - id: own
    run: "#own"
    in: {n: n}
    out: []
  - id: inner
    run: "#sub"
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
- class: Workflow
  id: sub
  inputs: {n: int}
  outputs: []
  steps:
    a: {run: "#inner", in: {n: n}, out: []}
- class: CommandLineTool
  id: inner
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
  inputs:
    n: int
    more:
      type: File
      default: {class: File, location: words.txt}
  outputs: []
