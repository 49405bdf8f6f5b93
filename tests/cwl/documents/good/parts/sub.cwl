cwlVersion: v1.2
$namespaces:
  other: https://example.org/#
$graph:
- class: Workflow
  id: sub
  inputs: {n: int}
  outputs: []
  steps:
    a: {run: "#inner", in: {n: n}, out: []}
    b:
      run: deeper/tool.cwl
      in: {n: n}
      out: []
- class: CommandLineTool
  id: inner
  hints:
    $import: hints.yml
  arguments: [echo, $(inputs.n)]
  inputs: {n: int}
  outputs: []
