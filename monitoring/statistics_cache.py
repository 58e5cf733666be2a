"""Statistics of single spans on disk, by what they are a function of. Losing them costs time and nothing else."""

import gzip
import logging
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_data_validation import __version__ as tfdv_version
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from core.digests import digest_of_bytes, digest_of_json
from core.files import sweep_temporaries, write_bytes_atomically
from schemas.engine import Engine

# Raise it when the same span's statistics come out differently, or hold more than before.
FORMAT_VERSION = 1
# Some 60 kB each for flights. A window of more spans than this computes some of them again.
MAX_ENTRIES = 512

_log = logging.getLogger(__name__)
Statistics = dict[str, Any]  # `DatasetFeatureStatistics` by split


def entry_name(span_digest: str, schema: schema_pb2.Schema, engine: Engine) -> str:
    """Return the name of a span's statistics: everything that shapes them is in it.

    Args:
        span_digest: Digest of the span's content.
        schema: What TFDV was told of the features.
        engine: What computed them; the two agree within TFDV's error, and a result must not depend on who was first.
    """
    schema_digest = digest_of_bytes(schema.SerializeToString(deterministic=True))
    return digest_of_json([FORMAT_VERSION, tfdv_version, span_digest, schema_digest, engine])


class StatisticsCache:
    """A folder of entries, the least recently used of which leave when there are too many.

    Args:
        folder: Made when needed. Where it cannot be written, nothing is kept.
        max_entries: Most entries to keep.
    """

    def __init__(self, folder: Path, max_entries: int = MAX_ENTRIES) -> None:
        self._folder = folder
        self._max_entries = max_entries

    def read(self, name: str) -> Statistics | None:
        """Return an entry, or None where there is none or it is damaged."""
        path = self._path(name)
        try:
            # gzip's own checksum tells damage.
            content = statistics_pb2.DatasetFeatureStatisticsList.FromString(gzip.decompress(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, EOFError, zlib.error, DecodeError) as error:
            _log.warning("Statistics %s cannot be read and are computed anew: %s", path, error)
            return None
        with suppress(OSError):
            os.utime(path)
        return {dataset.name: dataset for dataset in content.datasets}

    def write(self, name: str, statistics: Mapping[str, Any]) -> None:
        """Keep an entry, and let the least recently used ones go; a folder that cannot be written is left alone."""
        content = statistics_pb2.DatasetFeatureStatisticsList()
        for split, dataset in sorted(statistics.items()):
            content.datasets.add().CopyFrom(dataset)
            content.datasets[-1].name = split
        try:
            write_bytes_atomically(self._path(name), gzip.compress(content.SerializeToString(), mtime=0))
            sweep_temporaries(self._folder)
            self._drop_oldest()
        except OSError as error:
            _log.warning("Statistics cannot be kept in %s; the next window computes them anew: %s", self._folder, error)

    def _drop_oldest(self) -> None:
        with_times = []
        for path in self._folder.glob(self._path("*").name):
            with suppress(FileNotFoundError):  # another process may be quicker
                with_times.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(with_times)[: -self._max_entries]:
            path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.pb.gz"
