"""Content digests (SHA-256, hexadecimal) of bytes, files, folders and JSON-like values."""

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def digest_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        state = hashlib.sha256()
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def digest_of_folder(path: Path, pattern: str = "*") -> str:
    """Return one digest over the relative names and contents of all files below `path` that match `pattern`."""
    files = sorted(file for file in path.rglob(pattern) if file.is_file())
    return digest_of_json([[file.relative_to(path).as_posix(), digest_of_file(file)] for file in files])


def digest_of_json(value: Any) -> str:
    """Return the digest of a JSON-like value, independent of the order of its keys.

    Example:
        >>> digest_of_json({"a": 1, "b": 2}) == digest_of_json({"b": 2, "a": 1})
        True
    """
    return digest_of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
