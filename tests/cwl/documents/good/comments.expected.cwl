# A tool.
cwlVersion: v1.2
$namespaces:
  calrissian: https://calrissian-cwl.github.io/schema#
class: CommandLineTool
id: eopf
requirements:
  # Where it runs.
  DockerRequirement:
    dockerPull: example.org/eopf:1.4.1   # pinned
  # What it may read.
  EnvVarRequirement:
    envDef:
      PYTHONPATH: {envValue: /app}
      DASK_CLAIM: |-
        {
          "image": "example.org/eopf:1.4.1",
          "worker_cores": $(inputs.cores),
          "worker_cores_limit": 1,
          "worker_memory": "4G",
          "max_cores": 5,
          "max_memory": "20G",
          "local_cores": $(runtime.cores),
          "local_memory": "$(runtime.ram) Mi"
        }
  # Room.
  ResourceRequirement:
    ramMin: 1024
  NetworkAccess:
    networkAccess: true
permanentFailCodes: [64, 70, 78, 124, 126, 127]
# The program.
baseCommand: [dask-claim, --, echo, hi]
arguments: []
# What it gets.
inputs:
  cores: {type: int, default: 1}   # of each worker

  # Not used.
  memory: string?
outputs: []
# What the codes mean.
temporaryFailCodes:
- 3   # busy
- 75
# The end.
