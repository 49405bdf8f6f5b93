cwlVersion: v1.2
class: Workflow
inputs: []
outputs: []
steps:
  one:
    run: parts/v1_0.cwl
    in: []
    out: []
