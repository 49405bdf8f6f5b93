cwlVersion: v1.2
class: CommandLineTool
doc: The claim and the image are hints; there is no baseCommand.
hints:
  DockerRequirement:
    dockerPull: example.org/tool:2
  https://calrissian-cwl.github.io/schema#DaskGatewayRequirement:
    cores_min:
      value: 4
    cores_max: {value: 10}
    worker_cores:
      name: DASK_WORKER_CORES
      value: 0.5
    gateway_url:
      name: DASK_GATEWAY_URL
  EnvVarRequirement:
    envDef: {MODE: fast}
arguments: [echo, $(inputs.scene)]
inputs:
  scene: string
outputs: []
