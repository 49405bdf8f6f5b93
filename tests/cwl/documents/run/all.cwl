cwlVersion: v1.2
class: Workflow
doc: All that a runner should do with tools that claim, at once.
requirements:
  ScatterFeatureRequirement: {}
  SubworkflowFeatureRequirement: {}
inputs:
  pre_event: string
  post_event: string
  items: Directory
  sizes: int[]
  number: int
outputs:
  burned_area: {type: Directory, outputSource: published/burned_area}
  threads: {type: "File[]", outputSource: workers/threads}
  large: {type: "File?", outputSource: condition/large}
  small: {type: "File?", outputSource: condition/small}
steps:
  published:
    run: PUBLISHED#burned-area
    in: {pre_event: pre_event, post_event: post_event, items: items}
    out: [burned_area]
  workers:
    run: workers.cwl
    scatter: cores
    in: {cores: sizes}
    out: [threads]
  condition:
    run: conditional.cwl#main
    in: {number: number}
    out: [large, small]
