cwlVersion: v1.2
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
class: Workflow
doc: One claimed tool for each of several inputs, each with a cluster of its own.
requirements:
  ScatterFeatureRequirement: {}
inputs:
  numbers: int[]
outputs:
  squares: {type: "File[]", outputSource: square/result}
steps:
  square:
    in: {number: numbers}
    scatter: number
    out: [result]
    run:
      class: CommandLineTool
      requirements:
        calrissian:DaskGatewayRequirement:
          workerCores: 1
          workerMemory: 512M
          clusterMaxCores: 1
      hints:
        DockerRequirement: {dockerPull: "dask-claim:0.1.0"}
      baseCommand: [python, -c]
      arguments:
        - |
          import sys
          from distributed import Client
          with Client() as client:
              assert client.scheduler.address.startswith("gateway"), client
              print(client.submit(pow, int(sys.argv[1]), 2).result())
      inputs:
        number: {type: int, inputBinding: {position: 1}}
      stdout: result.txt
      outputs:
        result: stdout
