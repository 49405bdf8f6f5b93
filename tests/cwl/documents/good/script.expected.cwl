cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
class: CommandLineTool
requirements:
  EnvVarRequirement:
    envDef:
      DASK_CLAIM: |-
        ${
          return JSON.stringify({
            "image": ["example.org/tool:", (function(v) { return typeof v === "string" ? v : JSON.stringify(v); })(inputs.tag)].join(""),
            "worker_cores": (inputs.cores * 2),
            "worker_memory": (inputs.memory),
            "max_workers": ((function() {
          var most = {"}": 3};
          return inputs["n-workers"] || most["}"];
        })()),
            "options": {
              "account": "\u0024(not evaluated)",
              "queue": [(inputs.queues[0]), "night"]
            },
            "env": {
              "worker_cores": (inputs.name)
            },
            "local_cores": (runtime.cores),
            "local_memory": [(function(v) { return typeof v === "string" ? v : JSON.stringify(v); })(runtime.ram), " Mi"].join("")
          });
        }
  InlineJavascriptRequirement:
    expressionLib: ["var unused = 1;"]
  NetworkAccess:
    networkAccess: true
hints:
  InlineJavascriptRequirement:
    expressionLib:
      - "var unused = 1;"
temporaryFailCodes: [75]
permanentFailCodes: [64, 70, 78, 124, 126, 127]
baseCommand: [dask-claim, --, tool]
inputs:
  cores: float
  memory: string?
  n-workers: int?
  tag: string
  queues: string[]
  name: string
outputs: []
