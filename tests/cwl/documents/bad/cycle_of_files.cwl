cwlVersion: v1.2
class: Workflow
inputs: []
outputs: []
steps:
  one:
    run: cycle_of_files.cwl
    in: []
    out: []
