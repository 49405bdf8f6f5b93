#!/usr/bin/env cwl-runner
cwlVersion: v1.0
class: CommandLineTool
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
baseCommand: [tool]
inputs: {cores: int}
outputs: []
requirements:
  calrissian:DaskGatewayRequirement: {workerCores: $(inputs.cores), clustermaxCore: 4}
  # This comes last.
  EnvVarRequirement:
    envDef: {}
