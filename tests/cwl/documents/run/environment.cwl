cwlVersion: v1.2
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
class: CommandLineTool
doc: Tells what it finds in its environment, and does one task on the cluster.
requirements:
  DockerRequirement: {dockerPull: "dask-claim:0.1.0"}
  calrissian:DaskGatewayRequirement:
    cores_max: {value: 1}
    worker_cores: {name: CORES, value: $(inputs.cores)}
    worker_memory: {name: MEMORY, value: 512M}
    gateway_url: {name: THE_GATEWAY}
    image: {name: IMAGE}
    cluster_name: {name: CLUSTER}
  EnvVarRequirement:
    envDef: {MODE: fast, DASK_GATEWAY__AUTH__KWARGS__USERNAME: tester}
baseCommand: [python, -c]
arguments:
  - |
    import json, os
    from distributed import Client
    with Client() as client:
        answer = client.submit(sum, [20, 22]).result()
    print(json.dumps({"answer": answer, "uid": os.getuid(), "gid": os.getgid(),
                      "cwd": os.getcwd(), "environment": dict(os.environ)}))
inputs:
  cores: int
stdout: found.json
outputs:
  everything:
    type: Directory
    outputBinding: {glob: .}
