cwlVersion: v1.2
class: Workflow
inputs: []
outputs: []
steps:
  one:
    run: nowhere.cwl
    in: []
    out: []
