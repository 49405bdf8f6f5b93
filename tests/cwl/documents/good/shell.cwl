cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
class: CommandLineTool
requirements:
  ShellCommandRequirement: {}
  calrissian:DaskGatewayRequirement:
    workerCores: 1
    clusterMaxCores: 1
baseCommand: [cd, /]
arguments:
  # All of it runs under dask-claim.
  - shellQuote: false
    valueFrom: '&& echo "$DASK_SCHEDULER_ADDRESS" | cut -c 1-6;'
  - printf
  - "%s|"
  - {position: 3, shellQuote: false, valueFrom: "; exit 7"}
successCodes: [7]
inputs:
  words:
    type: string[]
    inputBinding: {position: 2}
outputs:
  out: stdout
stdout: out.txt
