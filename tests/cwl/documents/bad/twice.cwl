cwlVersion: v1.2
class: CommandLineTool
class: Workflow
