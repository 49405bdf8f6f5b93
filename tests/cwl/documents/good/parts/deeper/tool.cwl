cwlVersion: v1.2
class: CommandLineTool
requirements:
  InitialWorkDirRequirement:
    listing:
      - entryname: words.txt
        entry: {$include: words.txt}
baseCommand: [cat, words.txt]   # from its own folder
inputs:
  n: int
  more:
    type: File
    default:
      class: File
      location: words.txt
outputs: []
