cwlVersion: v1.2
$namespaces: {calrissian: "https://calrissian-cwl.github.io/schema#"}
$graph:
  - class: Workflow
    id: main
    doc: A claimed tool behind a condition, which holds for one step and not for the other.
    requirements:
      InlineJavascriptRequirement: {}
    inputs:
      number: int
    outputs:
      large: {type: "File?", outputSource: large/result}
      small: {type: "File?", outputSource: small/result}
    steps:
      large:
        in: {number: number}
        when: $(inputs.number > 5)
        out: [result]
        run: "#square"
      small:
        in: {number: number}
        when: $(inputs.number <= 5)
        out: [result]
        run: "#square"
  - class: CommandLineTool
    id: square
    requirements:
      # The user whose clusters the tests look at.
      EnvVarRequirement: {envDef: {DASK_GATEWAY__AUTH__KWARGS__USERNAME: tester}}
      calrissian:DaskGatewayRequirement:
        RuntimeRequirement: {worker_cores: 1, worker_memory: 512M, max_cores: 1}
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
