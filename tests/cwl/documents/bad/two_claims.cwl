cwlVersion: v1.2
class: CommandLineTool
requirements:
  EnvVarRequirement:
    envDef:
      DASK_CLAIM: '{"max_workers": 2}'
  DaskGatewayRequirement: {max_workers: 1}
baseCommand: echo
inputs: []
outputs: []
