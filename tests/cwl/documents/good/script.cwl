cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
class: CommandLineTool
requirements:
  calrissian:DaskGatewayRequirement:
    worker_cores: $(inputs.cores * 2)
    worker_memory: $(inputs.memory)
    max_workers: |
      ${
        var most = {"}": 3};
        return inputs["n-workers"] || most["}"];
      }
    image: example.org/tool:$(inputs.tag)
    options:
      account: \$(not evaluated)
      queue: ["$(inputs.queues[0])", "night"]
    env:
      worker_cores: $(inputs.name)
hints:
  InlineJavascriptRequirement:
    expressionLib:
      - "var unused = 1;"
baseCommand: tool
inputs:
  cores: float
  memory: string?
  n-workers: int?
  tag: string
  queues: string[]
  name: string
outputs: []
