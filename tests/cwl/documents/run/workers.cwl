cwlVersion: v1.2
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
class: CommandLineTool
requirements:
  # The user whose clusters the tests look at.
  EnvVarRequirement: {envDef: {DASK_GATEWAY__AUTH__KWARGS__USERNAME: tester}}
  calrissian:DaskGatewayRequirement:
    workerCores: $(inputs.cores)
    workerCoresLimit: $(inputs.cores)
    workerMemory: 512M
    min_workers: 1
    clusterMaxCores: $(1 * inputs.cores)
  InlineJavascriptRequirement: {}
hints:
  DockerRequirement: {dockerPull: "dask-claim:0.1.0"}
baseCommand: [python, -c]
arguments:
  - |
    from distributed import Client
    with Client() as client:
        client.wait_for_workers(1)
        print([worker["nthreads"] for worker in client.scheduler_info()["workers"].values()][0])
inputs:
  cores: int
stdout: threads.txt
outputs:
  threads: stdout
