"""Factories for small sources and spans."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from schemas.ingestion import IngestOptions
from schemas.spans import SPLITS, Manifest

SCHEMA = """
feature { name: "city" type: BYTES }
feature { name: "count" type: INT }
feature { name: "size" type: FLOAT }
feature { name: "label" type: INT }
"""

COLUMNS = ("time", "id", "city", "count", "size", "label")


@pytest.fixture(scope="session")
def schema() -> schema_pb2.Schema:
    """Schema of the small records: one column of each type, and a label."""
    return text_format.Parse(SCHEMA, schema_pb2.Schema())


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., list[dict[str, str]]]:
    """Return `num_records` records, ten a day from 2024-01-01 on, as the text that a CSV file has."""

    def make(num_records: int = 100) -> list[dict[str, str]]:
        return [
            {
                "time": f"2024-01-{1 + number // 10:02d}T{number % 10:02d}:30:00Z",
                "id": f"r{number}",
                "city": "" if number % 7 == 0 else f"city-{number % 5}",
                "count": "" if number % 11 == 0 else str(number),
                "size": "NaN" if number % 13 == 0 else str(number / 8),
                "label": str(number % 2),
            }
            for number in range(num_records)
        ]

    return make


@pytest.fixture(scope="session")
def write_csv() -> Callable[..., Path]:
    """Write records to a CSV file."""

    def write(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def make_options() -> Callable[..., IngestOptions]:
    """Return options for daily spans from 2024-01-01 on, of the CSV files that `path` names."""

    def make(path: Path | str, **changes: Any) -> IngestOptions:
        source = {"kind": "csv", "path": str(path), "time_column": "time", "key_columns": ["id"]}
        options = {
            "source": source,
            "window": "day",
            "origin": date(2024, 1, 1),
            "label_column": "label",
            "complete_before": date(2024, 2, 1),
            "eval_fraction": 0.4,
        }
        return IngestOptions.model_validate(options | changes)

    return make


@pytest.fixture
def make_span(
    tmp_path: Path, schema: schema_pb2.Schema, make_rows: Any, write_csv: Any, make_options: Any
) -> Callable[[], tuple[Path, Manifest]]:
    """Write span 1 version 1 with ten examples; return its folder and manifest."""

    def make() -> tuple[Path, Manifest]:
        path = write_csv(tmp_path / "source" / "one.csv", make_rows(10))
        ingest(make_options(path), tmp_path / "spans", schema=schema)
        manifest = read_manifest(tmp_path / "spans", 1, 1)
        return manifest.ref.folder(tmp_path / "spans"), manifest

    return make


@pytest.fixture(scope="session")
def read_examples() -> Callable[..., Iterator[Any]]:
    """Yield the serialized examples of a span, split by split, as TensorFlow reads them."""

    def read(folder: Path, manifest: Manifest, splits: tuple[str, ...] = SPLITS) -> Iterator[Any]:
        import tensorflow as tf

        for split in splits:
            paths = [str(folder / file.path) for file in manifest.files[split]]
            yield from tf.data.TFRecordDataset(paths, compression_type="GZIP").as_numpy_iterator()

    return read


@pytest.fixture(scope="session")
def folder_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Return the content of every file below a folder, by relative path."""

    def read(root: Path) -> dict[str, bytes]:
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return read
