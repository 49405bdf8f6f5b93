class: CommandLineTool
cwlVersion: draft-3
inputs: []
outputs: []
