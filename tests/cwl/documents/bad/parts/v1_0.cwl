cwlVersion: v1.0
$namespaces: {x: "https://example.org/one#"}
class: CommandLineTool
hints: {x:DaskGatewayRequirement: {max_workers: 1}}
baseCommand: echo
inputs: []
outputs: []
