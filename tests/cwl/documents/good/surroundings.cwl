cwlVersion: v1.2
class: Workflow
requirements:
  EnvVarRequirement: {envDef: {OUTER: "1"}}
  NetworkAccess: {networkAccess: true}
  InlineJavascriptRequirement: {}
hints:
  DockerRequirement: {dockerPull: "example.org/outer:1"}
inputs: {n: int}
outputs: []
steps:
  one:
    run:
      class: CommandLineTool
      requirements: {DaskGatewayRequirement: {max_workers: $(inputs.n + 1)}}
      baseCommand: echo
      inputs: {n: int}
      outputs: []
    in: {n: n}
    out: []
