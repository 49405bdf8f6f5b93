cwlVersion: v1.2
class: CommandLineTool
requirements:
  DaskGatewayRequirement:
    max_workers: ${ return 1;
baseCommand: echo
inputs: []
outputs: []
