cwlVersion: v1.0
$namespaces: {x: "https://example.org/other#"}
class: Workflow
inputs: []
outputs: []
steps:
  one:
    run: parts/v1_0.cwl
    in: []
    out: []
