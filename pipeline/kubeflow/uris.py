"""Where KFP's launcher puts what lies in an object store: before a task it downloads, after it uploads from there."""

import os
from pathlib import Path, PurePosixPath

from core.errors import ConfigError, LineageError

# `kubeflow run-local` has no launcher; it keeps these folders below one of its own.
LOCAL_ROOT_VARIABLE = "PERENNIAL_LOCAL_ROOT"
SCHEME_MARK = "://"
_FOLDERS = {"minio": "minio", "s3": "s3", "gs": "gcs"}
_IMAGES = "oci"  # a model that is an image; the launcher mounts it, and no task writes one


def is_remote(uri: str) -> bool:
    """Tell whether something lies in an object store, not in a folder."""
    return SCHEME_MARK in uri


def local_path(uri: str) -> Path:
    """Return where a task finds an artifact, or puts it; a plain path stays what it is.

    Args:
        uri: A URI as KFP makes them, or an absolute path, for example on a volume.

    Raises:
        ConfigError: no launcher brings such a URI, or it would lead out of its store.

    Example:
        >>> local_path("minio://mlpipeline/v2/artifacts/model").as_posix()
        '/minio/mlpipeline/v2/artifacts/model'
        >>> local_path("gs://bucket/model").as_posix()
        '/gcs/bucket/model'
        >>> local_path("/perennial/flights/model").as_posix()
        '/perennial/flights/model'

    Source:
        kubeflow/pipelines, backend/src/v2/component/launcher_v2.go, LocalPathForURI.
    """
    scheme, mark, key = uri.rpartition(SCHEME_MARK)
    if not mark:
        _check(uri, is_well_formed=uri.startswith("/"))
        return Path(uri)
    _check(uri, is_well_formed=scheme in (*_FOLDERS, _IMAGES) and bool(key.strip("/")) and not key.startswith("/"))
    if scheme == _IMAGES:
        return _local_root() / _IMAGES / key.replace("/", "_") / "models"
    return _local_root() / _FOLDERS[scheme] / key


def check_brought(key: str, uri: str) -> None:
    """Refuse to run on an artifact that the launcher did not bring: of what has vanished it says nothing.

    Args:
        key: The input that it is.
        uri: Its URI.

    Raises:
        LineageError: its folder is missing or empty.
        ConfigError: as `local_path`.
    """
    path = local_path(uri)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        return
    raise LineageError(
        f"Input {key!r} has no files. Expected what lies at {uri!r}, brought to {str(path)!r}; received "
        f"{'an empty folder' if path.exists() else 'nothing'}. If it is still in the store, look into the log of the "
        "launcher, in the same pod; else bring it back from a backup, or go back to a model that is whole with "
        "`perennial model rollback` and run the span again."
    )


def uri_of(path: Path | str) -> str:
    """Return the URI of what a task sees at `path`; a path that no launcher maps is its own.

    Raises:
        ConfigError: the path is of a model image, whose URI cannot be told from it.

    Example:
        >>> uri_of("/gcs/bucket/model")
        'gs://bucket/model'
        >>> uri_of("/perennial/flights/model")
        '/perennial/flights/model'
    """
    path = Path(path)
    if not path.is_relative_to(_local_root()):
        return str(path)
    folder, *key = path.relative_to(_local_root()).parts or ("",)
    if folder == _IMAGES:
        raise ConfigError(f"The URI of {str(path)!r} is lost: oci:// maps every '/' to '_'. Expected another store.")
    schemes = {name: scheme for scheme, name in _FOLDERS.items()}
    return f"{schemes[folder]}{SCHEME_MARK}{'/'.join(key)}" if folder in schemes and key else str(path)


def _local_root() -> Path:
    return Path(os.environ.get(LOCAL_ROOT_VARIABLE, "/"))


def _check(uri: str, *, is_well_formed: bool) -> None:
    if is_well_formed and ".." not in PurePosixPath(uri).parts:
        return
    raise ConfigError(
        f"An artifact's URI has no place on this machine. Expected minio://, s3://, gs:// or oci:// with bucket and "
        f"key, or an absolute path, without '..'; received uri={uri!r}. Correct `kubeflow.pipeline_root` in the "
        "config, or the URI that the run was given."
    )
