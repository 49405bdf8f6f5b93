cwlVersion: v1.2
class: CommandLineTool
hints:
- class: DaskGatewayRequirement
  worker_cores: 1
  min_cores: 10
  max_cores: 4
baseCommand: echo
inputs: []
outputs: []
