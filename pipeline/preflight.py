"""What can be wrong between a config, its schema and the user's code, found before a run and not minutes into it."""

from pathlib import Path

from core.errors import ConfigError, did_you_mean
from core.functions import load_function
from pipeline.config import Config
from pipeline.flink import check_cluster, check_job_server
from schemas.loader import feature_types, load_schema


def check_config(config: Config) -> None:
    """Check that the columns and functions that a config names exist.

    Raises:
        ConfigError: a feature or the label is no column of the schema, or a function cannot be loaded.
        SchemaError: the schema cannot be read.
    """
    columns = feature_types(load_schema(Path(config.schema_file)))
    # With a function of one's own, features are what it makes, not columns.
    names = [] if config.preprocessing_fn else list(config.features)
    for name in (*names, config.label.name):
        if name not in columns:
            raise ConfigError(
                f"Column {name!r} of the config is not in the schema {config.schema_file!r}. Expected one of "
                f"{sorted(columns)}. Correct the config or add the column to the schema.{did_you_mean(name, columns)}"
            )
    for reference in (config.preprocessing_fn, config.training.model.function):
        if reference:
            load_function(reference)


def check_engine(config: Config) -> None:
    """Check that Beam can run where the config says.

    With `engine: auto` the cluster itself is not asked: a span that fits in this process must not wait for it.

    Raises:
        ConfigError: something is missing, or does not fit.
        UnavailableError: the Flink cluster does not answer.
    """
    # In a cluster it is the tasks' image that has Java and the jar, and the tasks that reach Flink.
    if config.beam.runner != "flink" or config.engine.use == "in_process" or config.runner == "kubeflow":
        return
    check_job_server(config.beam)
    if config.engine.use == "beam":
        check_cluster(config.beam)
