"""A config as the pods of a cluster see it: where things lie there, and what its references must find there."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from core.errors import ConfigError
from pipeline.config import Config
from pipeline.kubeflow.options import FROM_ENVIRONMENT, VolumeOptions

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_SQLITE = "sqlite:///"
# Kubernetes allows 63 characters in a label, and a run's workflow is named after the pipeline, with six more.
_MAX_NAME_LENGTH = 57


def config_in_cluster(config: Config) -> Config:
    """Return the config with the places that a pod sees.

    With a volume, all that the pipeline makes lies on it. Without one, tasks see this machine's paths, as `perennial
    kubeflow run-local` does. A relative `schema_file` stays: it is found from the working directory, which is the
    image's in a pod. What shapes a model stays too, and so does the config's digest; applied twice, nothing more
    changes.

    Raises:
        ConfigError: a path cannot exist in a pod, or a variable that the config refers to does not reach it.
    """
    _check_name(config.name)
    _check_reference(config, "ledger", config.ledger)
    _check_reference(config, "metadata", config.metadata)
    _check_environment(config)
    volume = config.kubeflow.volume
    if volume is None:
        serving_folder = config.serving_folder and str(Path(config.serving_folder).absolute())
        return config.model_copy(update={"root": str(config.root_path), "serving_folder": serving_folder})
    _check_paths(config, volume)
    return config.model_copy(update={"root": str(PurePosixPath(volume.mount) / config.name)})


def controller_config(config: Config) -> Config:
    """Return the config of what plans inside the cluster, and so calls the KFP API from there.

    Raises:
        ConfigError: as `config_in_cluster`, or the API's token does not reach the pod.
    """
    options = config.kubeflow
    _check_reference(config, "kubeflow.token", options.token)
    if urlsplit(options.host).hostname in _LOOPBACK:
        # A forwarded port of the machine that compiles; inside, the client finds the API by itself.
        options = options.model_copy(update={"host": ""})
    return config_in_cluster(config.model_copy(update={"kubeflow": options, "runner": "kubeflow"}))


def _check_name(name: str) -> None:
    if len(name) > _MAX_NAME_LENGTH or name.endswith("-"):
        raise ConfigError(
            f"Kubernetes would refuse what is named after this pipeline. Expected at most {_MAX_NAME_LENGTH} "
            f"characters, the last no '-'; received name={name!r} of {len(name)}. Rename the pipeline."
        )


def _check_reference(config: Config, key: str, value: str) -> None:
    name = value.removeprefix(FROM_ENVIRONMENT)
    if name == value or name in config.kubeflow.secrets or name in config.kubeflow.environment:
        return
    raise ConfigError(
        f"{key} is read from the environment variable {name!r}, which no pod would have. Expected it in "
        f"kubeflow.secrets or kubeflow.environment; received {sorted(config.kubeflow.secrets)} and "
        f"{sorted(config.kubeflow.environment)}. Add kubeflow.secrets.{name}: {{secret: NAME, key: KEY}}, which "
        "refers to a key of a Kubernetes secret."
    )


def _check_environment(config: Config) -> None:
    options = config.kubeflow
    if doubled := sorted(set(options.secrets) & set(options.environment)):
        raise ConfigError(
            f"kubeflow.secrets and kubeflow.environment both set {doubled}. Expected each variable once. Remove one."
        )
    for name, value in sorted(options.environment.items()):
        if re.search(r"://[^/@]*:[^/@]*@", value):
            raise ConfigError(
                f"kubeflow.environment.{name} holds a password, which would be written into every package. Expected a "
                f"reference. Move it to a Kubernetes secret and name it as kubeflow.secrets.{name}: "
                "{secret: NAME, key: KEY}."
            )


def _check_paths(config: Config, volume: VolumeOptions) -> None:
    folder = PurePosixPath(volume.mount)
    for key, url in (("ledger", config.ledger), ("metadata", config.metadata)):
        if not url:
            raise ConfigError(
                f"{key} is left to its default, a SQLite file, which pods of several nodes would damage. Expected the "
                f"URL of a database server, as {key}: env:NAME with kubeflow.secrets.NAME; received none. Set it; on a "
                f"cluster of one node, {_SQLITE}{folder}/... will do."
            )
        if url.startswith(_SQLITE) and not _lies_in(url.removeprefix(_SQLITE), folder):
            raise _unmounted(key, url, f"a database server's URL or {_SQLITE}{folder}/...")
    if config.serving_folder and not _lies_in(config.serving_folder, folder):
        raise _unmounted("serving_folder", config.serving_folder, f"a folder below {folder}, or none")
    schema = PurePosixPath(config.schema_file)
    if ".." in schema.parts or (schema.is_absolute() and not _lies_in(config.schema_file, folder)):
        expected = f"a path relative to the image's working directory, or one below {folder}"
        raise _unmounted("schema_file", config.schema_file, expected)


def _lies_in(path: str, folder: PurePosixPath) -> bool:
    return PurePosixPath(path).is_relative_to(folder) and ".." not in PurePosixPath(path).parts


def _unmounted(key: str, value: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{key} names a place that no pod would have. Expected {expected}, where kubeflow.volume is mounted; received "
        f"{key}={value!r}. Correct it, or leave kubeflow.volume out for runs on this machine."
    )
