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
  # The cluster.
  calrissian:DaskGatewayRequirement:
    workerCores: $(inputs.cores)
    workerCoresLimit: 1
    workerMemory: "4G"   # each
    clusterMaxCore: 5
    clusterMaxMemory: "20G"
  # Room.
  ResourceRequirement:
    ramMin: 1024
# The program.
baseCommand: [echo, hi]
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
# The end.
