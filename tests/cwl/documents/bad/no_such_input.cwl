cwlVersion: v1.2
class: CommandLineTool
requirements:
  DaskGatewayRequirement:
    max_workers:
      value: $(inputs.n)
baseCommand: echo
inputs: {m: int}
outputs: []
