# Two steps run one workflow with different claims; packed, so that ids are absolute.
cwlVersion: v1.2
$graph:
- class: Workflow
  id: "#main"
  requirements: [class: SubworkflowFeatureRequirement]
  inputs: [{id: "#main/n", type: int}]
  outputs: [{id: "#main/o", type: File, outputSource: "#main/x/o"}]
  steps:
  - id: "#main/x"
    run:
      class: Workflow
      inputs: [{id: "n", type: int}]
      outputs: [{id: "o", type: File, outputSource: "a/o"}]
      steps:
      - id: "a"
        run:
          class: CommandLineTool
          requirements:
            EnvVarRequirement:
              envDef:
                DASK_CLAIM: |-
                  {
                    "max_workers": 1,
                    "local_cores": $(runtime.cores),
                    "local_memory": "$(runtime.ram) Mi"
                  }
            NetworkAccess:
              networkAccess: true
          temporaryFailCodes: [75]
          permanentFailCodes: [64, 70, 78, 124, 126, 127]
          baseCommand: [dask-claim, --, echo]
          inputs: [{id: "n", type: int}]
          outputs: [{id: "o", type: stdout}]
        in: [{id: "n", source: "n"}]
        out: ["o"]
    in: [{id: "#main/x/n", source: "#main/n"}]
    out: ["#main/x/o"]
  - id: "#main/y"
    run:
      class: Workflow
      inputs: [{id: "n", type: int}]
      outputs: [{id: "o", type: File, outputSource: "a/o"}]
      steps:
      - id: "a"
        run:
          class: CommandLineTool
          requirements:
            EnvVarRequirement:
              envDef:
                DASK_CLAIM: |-
                  {
                    "max_workers": 2,
                    "local_cores": $(runtime.cores),
                    "local_memory": "$(runtime.ram) Mi"
                  }
            NetworkAccess:
              networkAccess: true
          temporaryFailCodes: [75]
          permanentFailCodes: [64, 70, 78, 124, 126, 127]
          baseCommand: [dask-claim, --, echo]
          inputs: [{id: "n", type: int}]
          outputs: [{id: "o", type: stdout}]
        in: [{id: "n", source: "n"}]
        out: ["o"]
    in: [{id: "#main/y/n", source: "#main/n"}]
    out: ["#main/y/o"]
- class: Workflow
  id: "#sub"
  inputs: [{id: "#sub/n", type: int}]
  outputs: [{id: "#sub/o", type: File, outputSource: "#sub/a/o"}]
  steps:
  - {id: "#sub/a", run: "#t", in: [{id: "#sub/a/n", source: "#sub/n"}], out: ["#sub/a/o"]}
- class: CommandLineTool
  id: "#t"
  baseCommand: echo
  inputs: [{id: "#t/n", type: int}]
  outputs: [{id: "#t/o", type: stdout}]
