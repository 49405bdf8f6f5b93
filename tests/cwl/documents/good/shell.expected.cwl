cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
class: CommandLineTool
requirements:
  ShellCommandRequirement: {}
  EnvVarRequirement:
    envDef:
      DASK_CLAIM: |-
        {
          "worker_cores": 1,
          "max_cores": 1,
          "local_cores": $(runtime.cores),
          "local_memory": "$(runtime.ram) Mi"
        }
  NetworkAccess:
    networkAccess: true
temporaryFailCodes: [75]
permanentFailCodes: [64, 70, 78, 124, 126, 127]
arguments:
  - position: -1000000
    valueFrom: |
      dask_claim_command=; while IFS= read -r dask_claim_line; do dask_claim_command="$dask_claim_command$dask_claim_line
      "; done <<'END_OF_THE_COMMAND_FOR_DASK_CLAIM'
    shellQuote: false
  - position: -1000000
    valueFrom: cd
  - position: -1000000
    valueFrom: /
  # All of it runs under dask-claim.
  - shellQuote: false
    valueFrom: '&& echo "$DASK_SCHEDULER_ADDRESS" | cut -c 1-6;'
  - printf
  - "%s|"
  - {position: 3, shellQuote: false, valueFrom: "; exit 7"}
  - position: 1000000
    valueFrom: |2-

      END_OF_THE_COMMAND_FOR_DASK_CLAIM
      exec dask-claim -- /bin/sh -c "$dask_claim_command"
    shellQuote: false
successCodes: [7]
inputs:
  words:
    type: string[]
    inputBinding: {position: 2}
outputs:
  out: stdout
stdout: out.txt
