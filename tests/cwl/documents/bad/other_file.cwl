cwlVersion: v1.2
class: Workflow
requirements:
  DaskGatewayRequirement: {max_workers: 1}
inputs: []
outputs: []
steps:
  one:
    run: nowhere.cwl
    in: []
    out: []
  two:
    run: {$import: nowhere.cwl}
    in: []
    out: []
