cwlVersion: v1.2
$namespaces:
  dg: https://calrissian-cwl.github.io/schema#
$graph:
# Everything here claims, unless it says otherwise itself.
- class: Workflow
  id: main
  requirements:
  - class: SubworkflowFeatureRequirement
  - class: dg:DaskGatewayRequirement
    worker_cores: 1
    max_cores: 4
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
    requirements:
      dg:DaskGatewayRequirement: {max_cores: 4, worker_cores: 1}
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
  baseCommand: echo
  inputs: {n: int}
  outputs: []
- class: CommandLineTool
  id: own
  requirements:
    dg:DaskGatewayRequirement:
      max_workers: 2
  baseCommand: echo
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
  hints:
  - class: DockerRequirement
    dockerPull: example.org/inner:1
  arguments: [echo, $(inputs.n)]
  inputs:
    n: int
    more:
      type: File
      default: {class: File, location: words.txt}
  outputs: []
