"""A folder that plays the cluster's object store, and the copies that KFP's launcher makes from it and to it."""

import shutil
from pathlib import Path

from core.errors import DataError
from core.files import discard_folder, path_inside
from pipeline.kubeflow.uris import SCHEME_MARK, is_remote, local_path


def launcher_path(uri: str, local_root: Path) -> Path:
    """Return where the launcher keeps an artifact of a task, with `local_root` for `/`; a plain path stays."""
    return local_root / local_path(uri).relative_to("/") if is_remote(uri) else Path(uri)


class LocalStore:
    """Buckets as folders: `minio://bucket/key` is `ROOT/minio/bucket/key`.

    Like an object store it holds files only: a folder without any does not arrive.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, uri: str) -> Path:
        """Return where an object, or all below a key, lies."""
        scheme, _, key = uri.partition(SCHEME_MARK)
        return path_inside(self.root, f"{scheme}/{key}")

    def download(self, uri: str, target: Path) -> bool:
        """Copy an artifact to a task's local path; tell whether there was anything, as the launcher does not."""
        return _copy_files(self.path_of(uri), target)

    def upload(self, source: Path, uri: str, *, pipeline_root: str) -> bool:
        """Copy what a task left at its local path; tell whether there was anything, which need not be.

        Raises:
            DataError: the task renamed its output to another bucket or prefix; the launcher refuses that too.
        """
        if not uri.startswith(pipeline_root.rstrip("/") + "/"):
            raise DataError(
                f"The task says that its output lies at {uri!r}. Expected something below the pipeline root "
                f"{pipeline_root!r}. Let the task write where its ExecutorInput says."
            )
        target = self.path_of(uri)
        # A task that is run again by hand leaves no file of the time before.
        discard_folder(target)
        return _copy_files(source, target)


def _copy_files(source: Path, target: Path) -> bool:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return True
    copied = [
        _copy_files(path, target / path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file()
    ]
    return bool(copied)
