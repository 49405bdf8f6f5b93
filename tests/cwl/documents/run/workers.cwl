cwlVersion: v1.2
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
class: CommandLineTool
requirements:
  calrissian:DaskGatewayRequirement:
    workerCores: $(inputs.cores)
    workerCoresLimit: $(inputs.cores)
    workerMemory: 512M
    min_workers: 1
    clusterMaxCores: $(inputs.cores * inputs.workers)
  InlineJavascriptRequirement: {}
baseCommand: [python, -c]
arguments:
  - |
    from distributed import Client
    with Client() as client:
        client.wait_for_workers(1)
        print([worker["nthreads"] for worker in client.scheduler_info()["workers"].values()][0])
  - $(inputs.workers)
inputs:
  cores: int
  workers: int
stdout: threads.txt
outputs:
  threads: stdout
