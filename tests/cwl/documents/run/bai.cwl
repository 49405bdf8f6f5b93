cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
$graph:
  - class: Workflow
    id: main
    inputs:
      pre_event: string
      post_event: string
      items: Directory
      cores: int
      memory: string
    outputs:
      map: {type: File, outputSource: bai/map}
      item: {type: File, outputSource: bai/item}
      quicklook: {type: File, outputSource: bai/quicklook}
    steps:
      bai:
        run: "#bai"
        in:
          pre_event: pre_event
          post_event: post_event
          items: items
          cores: cores
          memory: memory
        out: [map, item, quicklook]
  - class: CommandLineTool
    id: bai
    requirements:
      # As its developer wrote it.
      calrissian:DaskGatewayRequirement: CLAIM
      ResourceRequirement: {coresMin: 1, ramMin: 1024}
    hints:
      DockerRequirement: {dockerPull: "dask-claim:0.1.0"}
    baseCommand: [python, -m, bai_example]
    inputs:
      pre_event: {type: string, inputBinding: {prefix: --pre-event}}
      post_event: {type: string, inputBinding: {prefix: --post-event}}
      items: {type: Directory, inputBinding: {prefix: --items}}
      cores: int
      memory: string
    outputs:
      map: {type: File, outputBinding: {glob: bai.tif}}
      item: {type: File, outputBinding: {glob: bai.json}}
      quicklook: {type: File, outputBinding: {glob: bai.png}}
