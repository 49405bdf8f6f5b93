cwlVersion: v1.2
$namespaces: {dg: "https://calrissian-cwl.github.io/schema#"}
$graph:
  - class: CommandLineTool
    id: one
    requirements: &both
      EnvVarRequirement: {envDef: {MODE: fast}}
      NetworkAccess: {networkAccess: true}
    hints:
      dg:DaskGatewayRequirement: &claim {max_workers: 1}
    baseCommand: &command [echo, one]
    inputs: []
    outputs: []
  - class: CommandLineTool
    id: two
    requirements: *both
    baseCommand: *command
    inputs: []
    outputs: []
  - class: CommandLineTool
    id: three
    requirements:
      <<: *both
      dg:DaskGatewayRequirement: *claim
    baseCommand: *command
    inputs: []
    outputs: []
