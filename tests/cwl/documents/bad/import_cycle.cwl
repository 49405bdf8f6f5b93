cwlVersion: v1.2
class: CommandLineTool
requirements: {$import: parts/self.yml}
baseCommand: echo
inputs: []
outputs: []
