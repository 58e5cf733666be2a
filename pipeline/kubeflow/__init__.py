"""The same pipeline on Kubeflow Pipelines: compiling, submitting and following runs, and what runs inside a task.

Not in here: what a run does (`pipeline.graph`), and when one is due. Importing this package loads neither TFX nor kfp.
"""
