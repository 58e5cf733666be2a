"""Runs one node of the graph by itself, on a span of any size made from flights; the tests of Flink use it too.

`python -m benchmarks.heavy_nodes ROOT SIZE NODE OUTPUTS OVERRIDES...` runs one in a process of its own, with libraries
loaded first, and prints its seconds as JSON.
"""

import json
import random
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.digests import digest_of_json
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from ingest.span_writer import SpanContent, write_span
from pipeline.config import Config, load_config
from pipeline.quiet import quiet_libraries
from pipeline.shape import INT_PARAMETERS, typical_shape
from records.reading import serialized_batches, split_files
from schemas.loader import load_schema
from schemas.provenance import ENGINE, encode_spans
from schemas.spans import SPLITS, SpanRef

# A quarter of a year, which every bootstrapped span is drawn from.
SOURCE_SPANS = range(1, 14)
SEED = 2013
INPUTS = {
    "StatisticsGen": ("examples", "schema"),
    "Transform": ("examples", "schema"),
    "Evaluator": ("examples", "model", "schema"),
}


def ingest_flights(config: Config, spans: range = SOURCE_SPANS) -> None:
    """Ingest the weeks that are drawn from."""
    ingest(config.ingest_options, config.spans_path, schema=load_schema(Path(config.schema_file)), spans=spans)


def bootstrap_span(source: Path, target: Path, num_examples: int) -> SpanRef:
    """Write a span with examples of all spans of a folder, drawn with replacement; its number is its size.

    Args:
        source: Folder of spans.
        target: Folder of spans, another one.
        num_examples: Of all splits; they share them out as the source's do.
    """
    folders = sorted(source.glob("span-*/version-*"))
    records = {split: [record for folder in folders for record in _records(folder, split)] for split in SPLITS}
    total = sum(map(len, records.values()))
    chance = random.Random(SEED)
    drawn = {split: chance.choices(found, k=num_examples * len(found) // total) for split, found in records.items()}
    like = read_manifest(source, int(folders[0].parent.name.removeprefix("span-")), 1)
    digest = digest_of_json([num_examples, SEED, [str(folder.parent.name) for folder in folders]])
    times = (like.event_time_min, like.event_time_max)
    content = SpanContent(drawn, digest, *times, num_duplicates=0)  # type: ignore[arg-type]  # flights have times
    manifest = write_span(content, target, span=num_examples, version=1, excluded={}, source={"kind": "bootstrap"})
    return SpanRef(span=num_examples, version=1, digest=manifest.digest)


def run_node(config: Config, name: str, inputs: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run one node of a cold cycle's graph without ML Metadata, and return its output artifacts.

    Args:
        config: Says which engine and which of Beam's runners.
        name: The node's id.
        inputs: Artifacts by key; for ExampleGen the span, by `span`.
        folder: Where its outputs go; what lies there is removed.
    """
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.dsl.components.base.base_executor import BaseExecutor

    from pipeline.graph import build_graph

    shape = typical_shape(config, "cold")
    values: dict[str, Any] = {name: 1 if name in INT_PARAMETERS else "-" for name in shape.parameters}
    if span := inputs.get("span"):
        values["span"] = encode_spans([span])
    (node,) = (node for node in build_graph(config, shape, values).components if node.id == name)
    shutil.rmtree(folder, ignore_errors=True)
    outputs = {}
    for key, channel in node.outputs.items():
        outputs[key] = channel.type()
        outputs[key].uri = str(folder / key)
        Path(outputs[key].uri).mkdir(parents=True)
    executor = node.executor_spec.executor_class
    common = {"unique_id": "1", "tmp_dir": str(folder / "tmp")}
    if issubclass(executor, BaseBeamExecutor):
        context: Any = BaseBeamExecutor.Context(node.executor_spec.beam_pipeline_args, **common)
    else:
        context = BaseExecutor.Context(**common)
    received = {key: [artifact] for key, artifact in inputs.items() if key != "span"}
    executor(context).Do(received, {key: [artifact] for key, artifact in outputs.items()}, dict(node.exec_properties))
    return outputs


def make_inputs(config: Config, span: SpanRef, folder: Path, model: Path) -> dict[str, Any]:
    """Return what the heavy nodes read: the span's examples, the schema and a model.

    Args:
        config: The pipeline's.
        span: A span of `config.spans_path`.
        folder: Where Examples and Schema go.
        model: A Model artifact's folder.
    """
    from tfx.types.standard_artifacts import Model, Schema

    examples = run_node(config, "ExampleGen", {"span": span}, folder / "examples")["examples"]
    schema, trained = Schema(), Model()
    schema.uri, trained.uri = str(folder / "schema"), str(model)
    Path(schema.uri).mkdir(parents=True, exist_ok=True)
    shutil.copy(config.schema_file, Path(schema.uri) / "schema.pbtxt")
    return {"examples": examples, "schema": schema, "model": trained}


def inputs_of(node: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the inputs that a node takes."""
    return {key: inputs[key] for key in INPUTS[node]}


def _records(folder: Path, split: str) -> list[bytes]:
    return [record for batch in serialized_batches(split_files(folder, split)) for record in batch.tolist()]


def main(root: str, size: str, node: str, outputs: str, *overrides: str) -> None:
    """Run one node on what the benchmark prepared in `root`, and print what it took."""
    quiet_libraries()
    import apache_beam as _beam
    import tensorflow_model_analysis as _tfma
    import tensorflow_transform.beam as _tft_beam
    from tfx.utils import json_utils

    # What a warm worker has loaded is no part of a node's time.
    del _beam, _tfma, _tft_beam
    config = load_config(Path("conf/flights.yaml"), (f"root={root}", "window.cold_spans=1", *overrides))
    inputs = json_utils.loads(Path(root, f"inputs-{size}.json").read_text())
    start, cpu_start = time.perf_counter(), time.process_time()
    made = run_node(config, node, inputs_of(node, inputs), Path(outputs))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    engines = {artifact.get_string_custom_property(ENGINE) for artifact in made.values()} - {""}
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "engine": "/".join(sorted(engines))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
