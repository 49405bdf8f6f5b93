cwlVersion: v1.1
$graph:
- class: CommandLineTool
  id: one
  requirements:
    DaskGatewayRequirement: {max_workers: 1}
    EnvVarRequirement: {}
  temporaryFailCodes: []
  # The author's own.
  permanentFailCodes: [3]
  baseCommand: echo
  inputs: []
  outputs: []
- class: CommandLineTool
  id: other
  requirements:
    DaskGatewayRequirement: {max_workers: 2}
    EnvVarRequirement: {envDef: null}
    NetworkAccess: {networkAccess: false}
  baseCommand: echo
  inputs: []
  outputs: []
