"""What makes the first job of a worker process fast: everything imported that a cycle uses."""

import importlib

from pipeline.config import Config

# What nodes import when they run, and the two that import the rest.
_MODULES = (
    "pipeline.graph",
    "pipeline.runners",
    "records.reading",
    "serving.prediction",
    "trainer.run_fn",
    "transform.preprocessing",
)


def warm_up(config: Config) -> None:
    """Import what the cycles of a pipeline use.

    Args:
        config: The pipeline's config.
    """
    for module in _MODULES:
        importlib.import_module(module)
