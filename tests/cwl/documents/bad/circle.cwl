cwlVersion: v1.2
$graph:
- {class: Workflow, id: a, inputs: [], outputs: [], steps: {s: {run: "#b", in: [], out: []}}}
- {class: Workflow, id: b, inputs: [], outputs: [], steps: {s: {run: "#a", in: [], out: []}}}
