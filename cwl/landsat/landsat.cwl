cwlVersion: v1.2
$namespaces:
  cwltool: http://commonwl.org/cwltool#
$graph:
  - class: Workflow
    id: landsat
    label: Smaller picture of a Landsat band
    doc: Fetches a band, runs a notebook on it that uses a Dask cluster, sends the dataset to S3.
    hints:
      # cwltool and Calrissian keep these out of their logs and provenance.
      cwltool:Secrets:
        secrets: [aws_access_key_id, aws_secret_access_key, aws_session_token]
    inputs:
      url: {type: string, doc: "http(s) URL of the band, which ends in its file's name"}
      factor: {type: int, default: 10, doc: Pixels that become one in each direction}
      method: {type: string, default: mode, doc: "How: mode, average, nearest, med, min, max"}
      destination: {type: string, doc: "s3://bucket/prefix, below which the dataset appears"}
      endpoint: {type: string?, doc: URL of another S3 store than Amazon's}
      region: {type: string, default: us-east-1, doc: Region of the bucket}
      aws_access_key_id: {type: string}
      aws_secret_access_key: {type: string}
      aws_session_token: {type: string, default: "", doc: Of temporary credentials}
    steps:
      stage_in:
        run: "#stage-in"
        in: {url: url}
        out: [image, stdout, stderr]
      process:
        run: "#process"
        in:
          image: stage_in/image
          factor: factor
          method: method
        out: [dataset, notebook, stdout, stderr]
      stage_out:
        run: "#stage-out"
        in:
          dataset: process/dataset
          destination: destination
          endpoint: endpoint
          region: region
          aws_access_key_id: aws_access_key_id
          aws_secret_access_key: aws_secret_access_key
          aws_session_token: aws_session_token
        out: [stdout, stderr]
    outputs:
      image: {type: File?, outputSource: stage_in/image}
      dataset: {type: Directory?, outputSource: process/dataset}
      notebook: {type: File?, outputSource: process/notebook}
      stage_in_stdout: {type: File, outputSource: stage_in/stdout}
      stage_in_stderr: {type: File, outputSource: stage_in/stderr}
      process_stdout: {type: File, outputSource: process/stdout}
      process_stderr: {type: File, outputSource: process/stderr}
      stage_out_stdout: {type: File, outputSource: stage_out/stdout}
      stage_out_stderr: {type: File, outputSource: stage_out/stderr}

  # Outputs are optional, though a run that succeeds makes them: to a runner a missing one is a
  # permanent failure, and would hide that the run had ended with a temporary one. The programs
  # travel in this document, so that it runs in any image that has what they need.
  - class: CommandLineTool
    id: stage-in
    label: Fetch a file
    requirements:
      NetworkAccess: {networkAccess: true}
      InitialWorkDirRequirement:
        listing:
          - {entryname: stage_in.py, entry: {$include: stage_in.py}}
    hints:
      DockerRequirement: {dockerPull: "dask-claim:0.1.0-landsat"}
    temporaryFailCodes: [75]
    permanentFailCodes: [1]
    baseCommand: [python, stage_in.py]
    inputs:
      url: {type: string, inputBinding: {position: 1}}
    arguments: [{position: 2, valueFrom: image}]
    stdout: stage_in.out
    stderr: stage_in.err
    outputs:
      image: {type: File?, outputBinding: {glob: image/*}}
      stdout: {type: stdout}
      stderr: {type: stderr}

  - class: CommandLineTool
    id: process
    label: Run the notebook on a Dask cluster
    requirements:
      EnvVarRequirement:
        envDef:
          DASK_CLAIM: |
            {
              "image": "dask-claim:0.1.0-landsat",
              "worker_cores": 1,
              "worker_memory": "1 G",
              "min_workers": 1,
              "max_cores": 2,
              "local_cores": $(runtime.cores),
              "local_memory": "$(runtime.ram) Mi"
            }
          # What Jupyter notes is no output.
          IPYTHONDIR: $(runtime.tmpdir)/ipython
          JUPYTER_CONFIG_DIR: $(runtime.tmpdir)/jupyter
          JUPYTER_RUNTIME_DIR: $(runtime.tmpdir)/jupyter
      NetworkAccess: {networkAccess: true}
      ResourceRequirement: {coresMin: 1, coresMax: 1, ramMin: 2048, ramMax: 2048}
      InitialWorkDirRequirement:
        listing:
          - {entryname: process.ipynb, entry: {$include: process.ipynb}}
    hints:
      DockerRequirement: {dockerPull: "dask-claim:0.1.0-landsat"}
    # 1: a cell has failed, the executed notebook tells which.
    temporaryFailCodes: [75]
    permanentFailCodes: [1, 64, 70, 78, 124, 126, 127]
    baseCommand: [dask-claim, --, papermill, process.ipynb, executed.ipynb]
    arguments:
      [--kernel, python3, --no-progress-bar,
       -r, image, $(inputs.image.path), -p, factor, $(inputs.factor), -r, method, $(inputs.method)]
    inputs:
      image: {type: File, doc: A raster}
      factor: {type: int, default: 10, doc: Pixels that become one in each direction}
      method: {type: string, default: mode, doc: "How: mode, average, nearest, med, min, max"}
    stdout: process.out
    stderr: process.err
    outputs:
      dataset: {type: Directory?, outputBinding: {glob: $(inputs.image.nameroot)_downsampled}}
      notebook: {type: File?, outputBinding: {glob: executed.ipynb}}
      stdout: {type: stdout}
      stderr: {type: stderr}

  - class: CommandLineTool
    id: stage-out
    label: Send a dataset to an S3 store
    requirements:
      EnvVarRequirement:
        envDef: {AWS_SHARED_CREDENTIALS_FILE: credentials}
      NetworkAccess: {networkAccess: true}
      InitialWorkDirRequirement:
        listing:
          - {entryname: stage_out.py, entry: {$include: stage_out.py}}
          # A file, since whoever may look at processes reads arguments and variables.
          - entryname: credentials
            entry: |
              [default]
              aws_access_key_id = $(inputs.aws_access_key_id)
              aws_secret_access_key = $(inputs.aws_secret_access_key)
              aws_session_token = $(inputs.aws_session_token)
    hints:
      cwltool:Secrets:
        secrets: [aws_access_key_id, aws_secret_access_key, aws_session_token]
      DockerRequirement: {dockerPull: "dask-claim:0.1.0-landsat"}
    temporaryFailCodes: [75]
    permanentFailCodes: [1, 2]
    baseCommand: [python, stage_out.py]
    inputs:
      dataset: {type: Directory, inputBinding: {position: 1}}
      destination: {type: string, inputBinding: {position: 2}, doc: "s3://bucket/prefix"}
      endpoint: {type: string?, inputBinding: {prefix: --endpoint}}
      region: {type: string, default: us-east-1, inputBinding: {prefix: --region}}
      aws_access_key_id: {type: string}
      aws_secret_access_key: {type: string}
      aws_session_token: {type: string, default: ""}
    stdout: stage_out.out
    stderr: stage_out.err
    outputs:
      stdout: {type: stdout}
      stderr: {type: stderr}
