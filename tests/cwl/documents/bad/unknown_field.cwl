cwlVersion: v1.2
class: CommandLineTool
requirements:
  DaskGatewayRequirement:
    workerCores: 1
    workerMemry: 4G
    RuntimeRequirement:
      min_cores: many
baseCommand: echo
inputs: []
outputs: []
