cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
  s: https://schema.org/
s:softwareVersion: 0.1.0

$graph:
  - class: Workflow
    id: main
    label: Burned-area intensity
    doc: Maps the burned area between a pre-event and a post-event Sentinel-2 item.
    inputs:
      pre_event:
        type: string
        doc: URL or path of the STAC item before the event
      post_event:
        type: string
        doc: URL or path of the STAC item after the event
      items:
        type: Directory?
        doc: Folder in which relative paths of items are looked up
    outputs:
      map:
        type: File?
        outputSource: bai/map
        doc: The map, a cloud-optimised GeoTIFF
      severity:
        type: File?
        outputSource: bai/severity
        doc: The severity classes, a cloud-optimised GeoTIFF, with their names beside it
      item:
        type: File?
        outputSource: bai/item
        doc: Their STAC item, with the statistics
      quicklook:
        type: File?
        outputSource: bai/quicklook
        doc: A picture for people
    steps:
      bai:
        run: "#bai"
        in:
          pre_event: pre_event
          post_event: post_event
          items: items
        out: [map, severity, item, quicklook]

  - class: CommandLineTool
    id: bai
    label: Burned-area intensity of two items
    requirements:
      # What the program needs of a Dask cluster. Where the cluster comes from is the operator's to
      # say, in DASK_CLAIM__GATEWAY_URL; where nobody does, it is a local one.
      EnvVarRequirement:
        envDef:
          DASK_CLAIM: |
            {
              "image": "dask-claim:0.1.0",
              "worker_cores": 1,
              "worker_memory": "2 G",
              "min_workers": 1,
              "max_cores": 2
            }
      # In a container a tool has no network unless it says so, not even to its scheduler.
      NetworkAccess:
        networkAccess: true
      # The program, and one worker beside it for a run without a gateway.
      ResourceRequirement:
        coresMin: 1
        ramMin: 3072
    hints:
      DockerRequirement:
        dockerPull: dask-claim:0.1.0
      # For Calrissian's extension: the same claim in its own terms. Others pass over it.
      calrissian:DaskGatewayRequirement:
        workerCores: 1
        workerCoresLimit: 1
        workerMemory: 2G
        clusterMaxCores: 2
        clusterMaxMemory: 4G
    # 75: no cluster now, try again later. 64, 70, 78, 126, 127: trying again will not help.
    temporaryFailCodes: [75]
    permanentFailCodes: [64, 70, 78, 126, 127]
    baseCommand: [dask-claim, --, python, -m, bai_example]
    inputs:
      pre_event:
        type: string
        inputBinding: {prefix: --pre-event}
      post_event:
        type: string
        inputBinding: {prefix: --post-event}
      items:
        type: Directory?
        inputBinding: {prefix: --items}
    # Optional, though a run that succeeds writes them all: to a runner a missing file is a
    # permanent failure, and would hide that the run had ended with a temporary one.
    outputs:
      map:
        type: File?
        outputBinding: {glob: bai.tif}
      severity:
        type: File?
        outputBinding: {glob: bai-severity.tif}
        secondaryFiles: [.aux.xml]
      item:
        type: File?
        outputBinding: {glob: bai.json}
      quicklook:
        type: File?
        outputBinding: {glob: bai.png}
