cwlVersion: v1.2
class: Workflow
requirements:
  EnvVarRequirement: {envDef: {OUTER: "1"}}
  NetworkAccess: {networkAccess: true}
  InlineJavascriptRequirement: {}
hints:
  DockerRequirement: {dockerPull: "example.org/outer:1"}
inputs: {n: int}
outputs: []
steps:
  one:
    run:
      class: CommandLineTool
      requirements:
        EnvVarRequirement:
          envDef:
            OUTER: "1"
            DASK_CLAIM: |-
              ${
                return JSON.stringify({
                  "image": "example.org/outer:1",
                  "max_workers": (inputs.n + 1),
                  "local_cores": (runtime.cores),
                  "local_memory": [(function(v) { return typeof v === "string" ? v : JSON.stringify(v); })(runtime.ram), " Mi"].join("")
                });
              }
      temporaryFailCodes: [75]
      permanentFailCodes: [64, 70, 78, 124, 126, 127]
      baseCommand: [dask-claim, --, echo]
      inputs: {n: int}
      outputs: []
    in: {n: n}
    out: []
