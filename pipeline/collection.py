"""Garbage collection of models, artifacts and leftovers. What stays, `pipeline.retention` says.

In an order that a kill cannot harm: what goes is first marked as removed, in the ledger and in ML Metadata, and then
deleted. From the mark on nothing reads it, so half deleted files are no danger, and the next collection finds them.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from core.errors import LedgerError, UnavailableError
from core.files import TEMPORARY_PREFIX, abandoned_temporaries, path_inside
from ledger.ledger import Ledger
from lineage.garbage import RunContents, mark_deleted, present_artifacts, run_contents
from lineage.store import opened_store, store_exists
from pipeline.config import Config
from pipeline.kubeflow.uris import is_remote
from pipeline.registry import serve_champion
from pipeline.retention import History, Kept, retain
from schemas.base import Record
from serving.version_store import hidden_versions, locate, remove, versions

# Kinds of what is no artifact that ML Metadata calls present; a leftover is what a killed attempt or collection left.
SERVED_VERSION = "served version"
LEFTOVER = "leftover"
CHECKPOINT = "checkpoint"
NOTES = "execution notes"
TEMPORARY = "temporary"
# TFX keeps its notes on executions in a folder of this name, beside the outputs.
_NOTES_FOLDER = ".system"


class Doomed(Record):
    """A file or folder that goes.

    Attributes:
        kind: Type of the artifact, in ML Metadata's word, or one of this module's words.
        num_bytes: What its removal frees; a file that has another hard link frees nothing.
        version: Number of a served version.
    """

    path: str
    kind: str
    num_bytes: int
    version: int | None = None


class Garbage(Record):
    """Everything that a collection removes.

    Attributes:
        versions: Models that are marked as removed.
        uris: Artifacts that are marked as deleted.
        doomed: What is deleted.
        num_remote: Artifacts in an object store that nothing needs any more. They stay: nothing here reaches the store.
    """

    versions: tuple[int, ...] = ()
    uris: frozenset[str] = frozenset()
    doomed: tuple[Doomed, ...] = ()
    num_remote: int = 0


def find_garbage(config: Config, ledger: Ledger) -> Garbage:
    """Decide what may go; nothing is changed.

    Raises:
        LedgerError: the champion lies outside the pipeline's artifacts, so that nothing can be told.
    """
    history = _read_history(config, ledger)
    kept = retain(history, config)
    types, contents = dict[str, str](), RunContents(uris=frozenset(), execution_ids=frozenset())
    remote = frozenset[str]()
    if store_exists(config.metadata_url):
        with opened_store(config.metadata_url) as store:
            types, contents = present_artifacts(store), run_contents(store, kept.run_ids)
            remote = frozenset(uri for uri in present_artifacts(store, config.name) if is_remote(uri))
    kept = kept.model_copy(update={"uris": kept.uris | contents.uris})
    doomed = [
        *_served_versions(config, history, kept),
        *_artifacts(config, kept, types),
        *_notes(config, contents),
        *_checkpoints(config, kept),
    ]
    return Garbage(
        versions=tuple(sorted(set(history.present) - kept.versions)),
        uris=frozenset(uri for uri in types if uri not in kept.uris and _is_ours(config, uri)),
        doomed=(*doomed, *_temporaries(config, {entry.path for entry in doomed})),
        num_remote=len(remote - kept.uris),
    )


def remove_garbage(config: Config, ledger: Ledger, garbage: Garbage) -> None:
    """Mark everything as removed, then delete it. Killed anywhere, the next collection finishes.

    The caller holds the lease: a cycle that runs meanwhile could lose what its plan has chosen, and what an execution
    is still writing looks like what a killed one left. Registry commands need no lease; a model that one of them pinned
    or promoted meanwhile stops the collection before anything is deleted.

    Raises:
        LedgerError: one of the models may not be removed any more.
        UnavailableError: a file cannot be deleted now; the rest is left for the next collection.
    """
    # No version above the champion may be taken for the one that serves.
    serve_champion(config, ledger)
    ledger.mark_removed(garbage.versions)
    if garbage.uris:
        with opened_store(config.metadata_url, writable=True) as store:
            mark_deleted(store, garbage.uris)
    for entry in garbage.doomed:
        if entry.version is not None:
            remove(config.serving_path, entry.version)
        else:
            _delete(Path(entry.path))


def _read_history(config: Config, ledger: Ledger) -> History:
    champion = ledger.champion()
    if champion is not None and not (is_remote(champion.model_uri) or _is_ours(config, champion.model_uri)):
        raise LedgerError(
            f"The champion lies at {champion.model_uri!r}, so what is still needed cannot be told. Expected it "
            f"below {str(config.artifacts_path)!r}. Correct `root` in the config, and write it as the runs had it."
        )
    replayed = ledger.newest_replay()
    return History(
        champion_version=champion.version if champion else None,
        newest_replay_uri=replayed.replay_uri if replayed else None,
        models=tuple(ledger.models()),
        runs=tuple(ledger.runs()),
        spans=tuple(ledger.spans()),
    )


def _is_ours(config: Config, uri: str) -> bool:
    return not is_remote(uri) and Path(uri).is_relative_to(config.artifacts_path)


def _served_versions(config: Config, history: History, kept: Kept) -> Iterator[Doomed]:
    """Yield versions of removed models, and what killed runs staged; a visible one that nobody knows is a person's."""
    base = config.serving_path
    known = {model.version for model in history.models} | (set(hidden_versions(base)) - kept.push_versions)
    for version in sorted({*versions(base), *hidden_versions(base)} & known - kept.versions):
        if (folder := locate(base, version)) is not None:
            yield _doomed(base, folder, SERVED_VERSION).model_copy(update={"version": version})


def _artifacts(config: Config, kept: Kept, types: dict[str, str]) -> Iterator[Doomed]:
    """Yield what executions wrote, as TFX lays it out: `NODE/KEY/EXECUTION`."""
    for folder in sorted(config.artifacts_path.glob("*/[!.]*/*")):
        if folder.name.isdecimal() and str(folder) not in kept.uris:
            yield _doomed(config.artifacts_path, folder, types.get(str(folder), LEFTOVER))


def _notes(config: Config, contents: RunContents) -> Iterator[Doomed]:
    for folder in sorted(config.artifacts_path.glob(f"*/{_NOTES_FOLDER}/*/*")):
        if folder.name.isdecimal() and int(folder.name) not in contents.execution_ids:
            yield _doomed(config.artifacts_path, folder, NOTES)


def _checkpoints(config: Config, kept: Kept) -> Iterator[Doomed]:
    for folder in sorted(config.checkpoints_path.glob("[!.]*")):
        if folder.name not in kept.checkpoints:
            yield _doomed(config.checkpoints_path, folder, CHECKPOINT)


def _temporaries(config: Config, gone: set[str]) -> Iterator[Doomed]:
    """Yield what killed processes left unfinished anywhere, outside what goes anyway."""
    outside = [] if config.serving_path.is_relative_to(config.root_path) else [config.serving_path]
    for base in (config.root_path, *outside):
        for folder, names, files in os.walk(base):
            if any(name.startswith(TEMPORARY_PREFIX) for name in (*names, *files)):
                for leftover in abandoned_temporaries(Path(folder)):
                    yield _doomed(base, leftover, TEMPORARY)
            names[:] = [n for n in names if not n.startswith(TEMPORARY_PREFIX) and os.path.join(folder, n) not in gone]


def _doomed(base: Path, path: Path, kind: str) -> Doomed:
    # Refuses a link that leads elsewhere, before anything is changed.
    path_inside(base, str(path.relative_to(base)))
    files = [path] if path.is_file() else [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    found = [file.lstat() for file in files]
    return Doomed(path=str(path), kind=kind, num_bytes=sum(stat.st_size for stat in found if stat.st_nlink == 1))


def _delete(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(
            f"{str(path)!r} could not be removed: {error}. Expected a folder that this user may change. What is marked "
            "as removed is read no more; run `perennial model gc` again when that is mended."
        ) from error
