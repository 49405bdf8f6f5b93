cwlVersion: v1.2
class: CommandLineTool
requirements:
  DaskGatewayRequirement: 4
baseCommand: echo
inputs: []
outputs: []
