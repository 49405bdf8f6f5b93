cwlVersion: v1.2
class: CommandLineTool
requirements:
- $import: nowhere.yml
- class: DaskGatewayRequirement
  max_workers: 1
baseCommand: echo
inputs: []
outputs: []
