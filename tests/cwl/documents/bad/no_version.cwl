class: CommandLineTool
inputs: []
outputs: []
