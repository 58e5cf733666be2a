"""A pipeline with a short history in a ledger of its own, as commands that ask or plan find it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.files import write_text_atomically
from ingest.span_writer import write_manifest
from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord, RunStart, SpanArrival, SpanOutcome
from schemas.spans import Manifest, SpanRef, span_folder

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

    def arrive(self, span: int, version: int = 1, *, is_registered: bool = True) -> SpanRef:
        """Put a span's manifest on disk; its files are nobody's business here."""
        file = {"path": "Split-train/a", "sha256": f"{span}-{version}", "num_bytes": 1, "num_examples": 6000}
        manifest = Manifest.model_validate({"span": span, "version": version, "files": {"train": [file]}})
        folder = span_folder(self.root / "spans", span, version)
        folder.mkdir(parents=True)
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
            model_shape="{}",
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


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """Versions 1 to 3 of spans 8 to 10, of which the last serves."""
    root = tmp_path / "root"
    with Ledger.open(f"sqlite:///{root}/ledger.sqlite", "flights") as ledger:
        made = Family(root, ledger)
        for span in (8, 9, 10):
            made.push(span)
        yield made
