"""TFDV's statistics of the planned spans: each span's computed once, in this process or by Beam, and then merged."""

import copy
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import artifact_utils
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.types.standard_artifacts import Examples, ExampleStatistics, Schema
from tfx.types.system_executions import Process
from tfx.utils import json_utils

from components.postconditions import declared_counts, require_all_examples, require_no_remains
from core.files import link_or_copy
from schemas.engine import Engine, EngineOptions
from schemas.loader import load_schema
from schemas.provenance import ENGINE, EXAMPLES_SPANS, decode_spans
from schemas.spans import SPAN_FILE_NAME

EXAMPLES_KEY = "examples"
SCHEMA_KEY = "schema"
STATISTICS_KEY = "statistics"
ENGINE_KEY = "engine"
CACHE_KEY = "cache"

SCHEMA_FILE = "schema.pbtxt"
STATISTICS_FILE = "FeatureStats.pb"
# What TFX's own executor says of its output, besides splits and span.
DASHBOARD_LINK = "stats_dashboard_link"
SAMPLE_RATES = "sample_rate_by_split"

Statistics = dict[str, Any]  # `DatasetFeatureStatistics` by split


class StatisticsGenExecutor(BaseBeamExecutor):
    """Write the statistics of all spans of an Examples artifact, as TFX's own executor would.

    Beam's part is done by TFX's executor itself. TFDV is imported where it is used.
    """

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Take every span's statistics from the cache or compute them, merge them, and see that nothing is missing."""
        from monitoring.statistics import merge_statistics
        from monitoring.statistics_cache import StatisticsCache

        examples, schema = input_dict[EXAMPLES_KEY][0], input_dict[SCHEMA_KEY][0]
        statistics = output_dict[STATISTICS_KEY][0]
        cache = StatisticsCache(Path(exec_properties[CACHE_KEY]))
        spans = _spans(examples, schema, EngineOptions.model_validate_json(exec_properties[ENGINE_KEY]))
        kept = {span.entry: cache.read(span.entry) for span in spans}
        absent = [span for span in spans if kept[span.entry] is None]
        computed = {span.entry: self._compute(span, examples, schema, Path(statistics.uri)) for span in absent}
        found: dict[str, Any] = {**kept, **computed}
        parts = [found[span.entry] for span in spans]
        merged = {split: merge_statistics([part[split] for part in parts]) for split in spans[0].files}
        engine: Engine = "beam" if any(span.engine == "beam" for span in spans) else "in_process"
        counts = {split: int(dataset.num_examples) for split, dataset in merged.items()}
        require_all_examples(examples, counts, by=f"StatisticsGen ({engine})")
        # Only now: statistics that miss examples must not be found again.
        for entry, part in computed.items():
            cache.write(entry, part)
        _write(statistics, examples, merged, engine)

    def _compute(self, span: "_Span", examples: Any, schema: Any, scratch: Path) -> Statistics:
        from monitoring.span_statistics import compute_statistics
        from records.reading import record_batches

        if span.engine == "beam":
            return self._by_beam(span, examples, schema, scratch)
        loaded = load_schema(Path(schema.uri) / SCHEMA_FILE)
        return {split: compute_statistics(record_batches(files), loaded) for split, files in span.files.items()}

    def _by_beam(self, span: "_Span", examples: Any, schema: Any, scratch: Path) -> Statistics:
        """Run TFX's executor on the files of one span, in a folder that the workers of a cluster find too."""
        from tfx.components.statistics_gen.executor import Executor

        from monitoring.span_statistics import beam_options
        from monitoring.statistics import atoms_from_histograms

        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            alone, made = copy.deepcopy(examples), ExampleStatistics()
            alone.uri, made.uri = f"{folder}/examples", f"{folder}/statistics"
            for split, files in span.files.items():
                for file in files:
                    link_or_copy(file, Path(alone.uri, f"Split-{split}", file.name))
            Executor(self._context).Do(
                {EXAMPLES_KEY: [alone], SCHEMA_KEY: [schema]},
                {STATISTICS_KEY: [made]},
                {"stats_options_json": beam_options().to_json()},
            )
            require_no_remains(made, by="StatisticsGen (beam)")
            statistics = {split: _read(made.uri, split) for split in span.files}
        for dataset in statistics.values():
            atoms_from_histograms(dataset)
        return statistics


class StatisticsGenSpec(ComponentSpec):
    """TFX's, with our options in place of TFDV's."""

    PARAMETERS = {ENGINE_KEY: ExecutionParameter(type=str), CACHE_KEY: ExecutionParameter(type=str)}
    INPUTS = {EXAMPLES_KEY: ChannelParameter(type=Examples), SCHEMA_KEY: ChannelParameter(type=Schema)}
    OUTPUTS = {STATISTICS_KEY: ChannelParameter(type=ExampleStatistics)}
    TYPE_ANNOTATION = Process


class StatisticsGen(BaseBeamComponent):
    """Statistics of each split of some examples, in the place of TFX's StatisticsGen and with its output.

    Args:
        examples: What `ExampleGen` made, of one span or of several.
        schema: The reviewed schema.
        engine: `schemas.engine.EngineOptions` as JSON.
        cache: Folder of the statistics of single spans. Where it does not exist, or cannot be written, they are
            computed anew.
    """

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(StatisticsGenExecutor)

    def __init__(self, *, examples: BaseChannel, schema: BaseChannel, engine: str, cache: str) -> None:
        super().__init__(
            StatisticsGenSpec(
                examples=examples,
                schema=schema,
                engine=engine,
                cache=cache,
                statistics=Channel(type=ExampleStatistics),
            )
        )


@dataclass(frozen=True)
class _Span:
    """One of the spans of an Examples artifact: its files by split, what computes it, and its name in the cache."""

    files: dict[str, list[Path]]
    engine: Engine
    entry: str


def _spans(examples: Any, schema: Any, options: EngineOptions) -> list[_Span]:
    """Return the spans of an artifact; a span's share of the examples is taken to be that of the bytes."""
    from monitoring.statistics_cache import entry_name

    loaded = load_schema(Path(schema.uri) / SCHEMA_FILE)
    num_examples = sum(declared_counts(examples).values())
    all_bytes = _num_bytes(Path(examples.uri).glob("Split-*/*"))
    spans = []
    for reference in decode_spans(examples.get_string_custom_property(EXAMPLES_SPANS)):
        pattern = SPAN_FILE_NAME.format(span=reference.span, name="*")
        splits = artifact_utils.decode_split_names(examples.split_names)
        files = {split: sorted(Path(examples.uri, f"Split-{split}").glob(pattern)) for split in splits}
        num_bytes = _num_bytes(file for of_split in files.values() for file in of_split)
        engine = options.choose(num_examples * num_bytes // max(all_bytes, 1), num_bytes)
        spans.append(_Span(files, engine, entry_name(reference.digest, loaded, engine)))
    return spans


def _num_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _read(uri: str, split: str) -> Any:
    content = Path(uri, f"Split-{split}", STATISTICS_FILE).read_bytes()
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets[0]


def _write(statistics: Any, examples: Any, merged: Statistics, engine: Engine) -> None:
    from monitoring.statistics import without_atoms

    for split, dataset in merged.items():
        path = Path(statistics.uri, f"Split-{split}", STATISTICS_FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        published = statistics_pb2.DatasetFeatureStatisticsList()
        published.datasets.add().CopyFrom(without_atoms(dataset))
        published.datasets[0].ClearField("name")
        path.write_bytes(published.SerializeToString())
    statistics.split_names = artifact_utils.encode_split_names(list(merged))
    statistics.span = examples.span
    statistics.set_string_custom_property(DASHBOARD_LINK, "")
    statistics.set_json_value_custom_property(SAMPLE_RATES, json_utils.dumps(dict.fromkeys(merged, 1.0)))
    statistics.set_string_custom_property(ENGINE, engine)
