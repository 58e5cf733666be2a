"""A pipeline with a short history in a ledger of its own, as commands that ask or plan find it."""

import gzip
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import google_crc32c
import pytest

from core.files import write_text_atomically
from ingest.span_writer import describe_file, write_manifest
from ledger.ledger import Ledger
from pipeline.config import load_config
from schemas.ledger_records import ModelRecord, RunStart, SpanArrival, SpanOutcome
from schemas.spans import Manifest, SpanRef, span_folder
from schemas.training import ModelShape

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"
NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


class Family:
    """A pipeline whose cycles push one model after another, each from the one before.

    Attributes:
        root: Folder of the pipeline.
        ledger: Its ledger.
    """

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root = root
        self.ledger = ledger
        config = load_config(CONFIG)
        self._shape = ModelShape(feature_set=config.feature_set, model=config.training.model).model_dump_json()

    def arrive(self, span: int, version: int = 1, *, num_altered: int = 0, is_registered: bool = True) -> SpanRef:
        """Put a span of 1000 examples on disk, the first `num_altered` of them other than in version 1."""
        folder = span_folder(self.root / "spans", span, version)
        examples = [b"%d-%d-%d" % (span, version if row < num_altered else 1, row) for row in range(1000)]
        path = folder / "Split-train" / "examples.tfrecord.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(b"".join(map(_framed, examples)), mtime=version))
        files = {"train": (describe_file(folder, path, len(examples)),)}
        manifest = Manifest(span=span, version=version, files=files)
        write_manifest(folder, manifest)
        if is_registered:
            self.ledger.register_spans([SpanArrival(ref=manifest.ref, num_examples=manifest.num_examples)])
        return manifest.ref

    def push(self, span: int) -> None:
        """Record a cycle as the controller does."""
        ref, run_id = self.arrive(span), f"run-{span}"
        champion = self.ledger.champion()
        base = champion.version if champion else None
        window = [ref.model_dump()]
        plan = {
            "window": window,
            "analysis_window": [] if base else window,
            "initialisation": "warm" if base else "cold",
            "transform_graph_uri": "/transform/8" if base else None,
            "replay_uri": f"/replay/{span - 1}" if base else None,
        }
        model_folder = self.root / "artifacts" / "model" / str(span)
        write_text_atomically(model_folder / "Format-Serving" / "saved_model.pb", run_id)
        self.ledger.start_run(RunStart(run_id=run_id, span=span, version=1, trigger="next", plan=json.dumps(plan)))
        model = ModelRecord(
            version=self.ledger.reserve_version(),
            run_id=run_id,
            span=span,
            span_version=1,
            model_uri=str(model_folder),
            model_digest="a",
            training_digest="b",
            transform_graph_uri="/transform/8",
            transform_span=8,
            statistics_uri="/window-statistics/8",
            model_shape=self._shape,
            newest_span=span,
            base_version=base,
            pushed_at=NOON,
        )
        self.ledger.record_model(model)
        self.ledger.promote(base, model.version)
        for state in ("validated", "trained", "evaluated"):
            self.ledger.move_span(ref, state, run_id=run_id)
        uris = {"statistics_uri": f"/statistics/{span}", "replay_uri": f"/replay/{span}"}
        self.ledger.finish_span(ref, SpanOutcome(state="pushed", run_id=run_id, pushed_version=model.version, **uris))
        self.ledger.finish_run(run_id, "pushed")


def _framed(record: bytes) -> bytes:
    """Return a record as it is in a TFRecord file, without importing TensorFlow for it."""
    length = struct.pack("<Q", len(record))
    return length + _checksum(length) + record + _checksum(record)


def _checksum(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """Versions 1 to 3 of spans 8 to 10, of which the last serves."""
    root = tmp_path / "root"
    with Ledger.open(f"sqlite:///{root}/ledger.sqlite", "flights") as ledger:
        made = Family(root, ledger)
        for span in (8, 9, 10):
            made.push(span)
        yield made
