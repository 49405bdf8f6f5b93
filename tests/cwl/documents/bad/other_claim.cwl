# Two steps run one workflow with different claims; packed, so that ids are absolute.
cwlVersion: v1.2
$graph:
- class: Workflow
  id: "#main"
  requirements: [{class: SubworkflowFeatureRequirement}]
  inputs: [{id: "#main/n", type: int}]
  outputs: [{id: "#main/o", type: File, outputSource: "#main/x/o"}]
  steps:
  - {id: "#main/x", run: "#sub", in: [{id: "#main/x/n", source: "#main/n"}], out: ["#main/x/o"], requirements: [{class: DaskGatewayRequirement, max_workers: 1}]}
  - {id: "#main/y", run: "#sub", in: [{id: "#main/y/n", source: "#main/n"}], out: ["#main/y/o"], requirements: [{class: DaskGatewayRequirement, max_workers: 2}]}
- class: Workflow
  id: "#sub"
  inputs: [{id: "#sub/n", type: int}]
  outputs: [{id: "#sub/o", type: File, outputSource: "#sub/a/o"}]
  steps:
  - {id: "#sub/a", run: "#t", in: [{id: "#sub/a/n", source: "#sub/n"}], out: ["#sub/a/o"]}
- class: CommandLineTool
  id: "#t"
  baseCommand: echo
  inputs: [{id: "#t/n", type: int}]
  outputs: [{id: "#t/o", type: stdout}]
