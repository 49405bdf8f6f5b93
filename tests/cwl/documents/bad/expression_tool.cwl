cwlVersion: v1.2
class: ExpressionTool
requirements:
  InlineJavascriptRequirement: {}
  DaskGatewayRequirement: {max_workers: 1}
expression: "${ return {}; }"
inputs: []
outputs: []
