#!/usr/bin/env cwl-runner
cwlVersion: v1.0
class: CommandLineTool
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
temporaryFailCodes: [75]
permanentFailCodes: [64, 70, 78, 124, 126, 127]
baseCommand: [dask-claim, --, tool]
inputs: {cores: int}
outputs: []
requirements:
  # This comes last.
  EnvVarRequirement:
    envDef:
      DASK_CLAIM: |-
        {
          "worker_cores": $(inputs.cores),
          "max_cores": 4,
          "local_cores": $(runtime.cores),
          "local_memory": "$(runtime.ram) Mi"
        }
