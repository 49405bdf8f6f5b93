cwlVersion: v1.2
$namespaces:
  s: https://schema.org/
s:softwareVersion: 0.1.0
s:name: burned-area
s:description: Maps the area that a fire has burned, from satellite scenes before and after it.
s:keywords: burned area, dNBR, Sentinel-2, Landsat, Dask
s:license: https://www.apache.org/licenses/LICENSE-2.0
s:dateCreated: "2026-11-24"
s:publisher:
  class: s:Organization
  s:name: dask-claim
  s:email: dask-claim@example.org
# Stands for whoever publishes the package.
s:author:
  - class: s:Person
    s:givenName: dask-claim
    s:familyName: developers
    s:email: dask-claim@example.org
    s:affiliation:
      class: s:Organization
      s:name: dask-claim
s:softwareHelp:
  class: s:CreativeWork
  s:name: The burned-area example, docs/bai.md

$graph:
  - class: Workflow
    id: burned-area
    label: Burned-area intensity
    doc: Maps the burned area between a pre-event and a post-event item of Sentinel-2 or Landsat 8/9.
    requirements:
      # Enough for the program beside a gateway's cluster, and for a small local one. Calrissian
      # requests the upper bounds: a node must have so much to spare.
      ResourceRequirement:
        coresMin: 1
        coresMax: 1
        ramMin: 2048
        ramMax: 2048
    inputs:
      pre_event:
        type: string
        label: Pre-event item
        doc: URL or path of the STAC item before the event
      post_event:
        type: string
        label: Post-event item
        doc: URL or path of the STAC item after the event
      items:
        type: Directory?
        label: Folder of the items
        doc: Folder in which relative paths of items are looked up
    outputs:
      burned_area:
        type: Directory
        label: Burned-area map
        doc: A STAC catalog with one item, whose assets are the map, the severity classes and a picture
        outputSource: map/burned_area
    steps:
      map:
        label: Map the burned area
        doc: Computes the map on the claimed cluster
        run: "#bai"
        in:
          pre_event: pre_event
          post_event: post_event
          items: items
        out: [burned_area]

  - class: CommandLineTool
    id: bai
    label: Burned-area intensity of two items
    doc: Runs bai_example on a Dask cluster, which dask-claim claims for it.
    requirements:
      # What the program needs of a Dask cluster. Where the cluster comes from is the operator's to
      # say, in DASK_CLAIM_GATEWAY_URL; where nobody does, it is a local one, no larger than the
      # runner grants.
      EnvVarRequirement:
        envDef:
          DASK_CLAIM: |
            {
              "image": "dask-claim:0.1.0",
              "worker_cores": 1,
              "worker_memory": "2 G",
              "min_workers": 1,
              "max_cores": 2,
              "local_cores": $(runtime.cores),
              "local_memory": "$(runtime.ram) Mi"
            }
      # In a container a tool has no network unless it says so, not even to its scheduler.
      NetworkAccess:
        networkAccess: true
      ResourceRequirement:
        coresMin: 1
        coresMax: 1
        ramMin: 2048
        ramMax: 2048
    hints:
      DockerRequirement:
        dockerPull: dask-claim:0.1.0
    # 75: no cluster now, try again later. 64, 70, 78, 124, 126, 127: trying again will not help.
    temporaryFailCodes: [75]
    permanentFailCodes: [64, 70, 78, 124, 126, 127]
    baseCommand: [dask-claim, --, python, -m, bai_example]
    arguments: [--output-dir, burned-area]
    inputs:
      pre_event:
        type: string
        label: Pre-event item
        doc: URL or path of the STAC item before the event
        inputBinding: {prefix: --pre-event}
      post_event:
        type: string
        label: Post-event item
        doc: URL or path of the STAC item after the event
        inputBinding: {prefix: --post-event}
      items:
        type: Directory?
        label: Folder of the items
        doc: Folder in which relative paths of items are looked up
        inputBinding: {prefix: --items}
    # Optional, though a run that succeeds makes it: to a runner a missing output is a permanent
    # failure, and would hide that the run had ended with a temporary one.
    outputs:
      burned_area:
        type: Directory?
        label: Burned-area map
        doc: catalog.json, its item bai.json, and the item's assets
        outputBinding: {glob: burned-area}
