cwlVersion: v1.2
class: Workflow
requirements:
  DaskGatewayRequirement: {max_workers: 1}
inputs: []
outputs: []
steps:
  one:
    run: https://example.org/tool.cwl
    in: []
    out: []
