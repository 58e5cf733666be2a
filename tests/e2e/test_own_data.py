"""What docs/your-own-data.md promises a stranger, on real data: their columns, tasks, models, functions and folders."""

import gzip
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from pyarrow import parquet

from cli.main import perennial
from core.errors import ConfigError, DataError, SchemaError
from ingest.flights_source import package_folder
from ingest.manifests import read_manifest
from schemas.loader import feature_types, load_schema
from serving.prediction import Predictor

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]
WALK_THROUGH = REPOSITORY / "docs/your-own-data.md"
WEATHER = "conf/weather.yaml"
ARRIVALS = "arrivals.yaml"
CLASSES = ["early", "on_time", "late"]
NUM_FLIGHTS = 4500  # the first five days of January 2013, of which spans 1 to 3 are whole
FIRST_DATED_SPAN = 15707  # 2 January 2013, in days since 1970

FLIGHTS_SCHEMA = """
feature { name: "carrier" type: BYTES presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "airports" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 2 } }
feature { name: "distance" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "hour" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "arrival" type: BYTES presence { min_fraction: 1 } shape { dim { size: 1 } } }
"""
ARRIVALS_CONFIG = """
name: arrivals
schema_file: flights.pbtxt
ingest:
  source: {kind: parquet, path: flights.parquet, time_column: when, key_columns: [flight]}
  window: day
  origin: 2013-01-02
  timezone: America/New_York
label: {name: arrival, task: multiclass, classes: [early, on_time, late]}
features:
  carrier: {kind: hashed, num_buckets: 16, embedding_dim: 2}
  airports: {kind: vocabulary, capacity: 120, multivalued: true, max_values: 2, embedding_dim: 2}
  distance: {kind: bucketized, num_buckets: 4, embedding_dim: 2}
window: {cold_spans: 1}
training: {model: {kind: dcn_v2, hidden_units: [8], cross_layers: 1}, batch_size: 64, epochs_cold: 2, epochs_warm: 1}
gate:
  slices: [[carrier]]
  bounds:
    - {metric: sparse_categorical_accuracy, minimum: 0.2, policy: non_inferior, margin: 0.5}
    - {metric: sparse_categorical_crossentropy, maximum: 2, policy: non_inferior, margin: 1}
"""
# Somebody else's folders of spans, and functions of their own over them.
DATED = {
    "name": "dated",
    "ingest": {
        "source": {
            "kind": "tfrecord",
            "patterns": {split: f"incoming/{{YYYY}}/{{MM}}-{{DD}}/{split}*" for split in ("train", "eval")},
        }
    },
    "preprocessing_fn": "stranger:preprocess",
    "features": {"carrier": {"kind": "hashed", "num_buckets": 16}, "miles_per_hour": {"kind": "numeric"}},
    "training": {
        "model": {"kind": "custom", "function": "stranger:build", "hidden_units": [8]},
        "batch_size": 64,
        "epochs_cold": 1,
        "epochs_warm": 1,
    },
}
OWN_FUNCTIONS = '''
import keras
import tensorflow as tf
import tensorflow_transform as tft


def preprocess(inputs):
    """One feature that is a column, and one that is none."""
    return {
        "carrier": tf.strings.to_hash_bucket_fast(inputs["carrier"], 16),
        "miles_per_hour": tf.cast(tft.scale_to_z_score(inputs["distance"] / (inputs["hour"] + 1.0)), tf.float32),
    }


def build(inputs, feature_set, options):
    carrier = keras.layers.Flatten()(keras.layers.Embedding(16, 2, name="own_carrier")(inputs["carrier"]))
    joined = keras.layers.Concatenate()([carrier, inputs["miles_per_hour"]])
    return keras.layers.Dense(options.hidden_units[0], activation="relu", name="own_layer")(joined)
'''

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stranger's working directory, with the repository's examples in it; all tests here work in it."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("conf", "schemas"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "stranger.py").write_text(OWN_FUNCTIONS)
    (folder / "flights.pbtxt").write_text(FLIGHTS_SCHEMA)
    (folder / ARRIVALS).write_text(ARRIVALS_CONFIG)
    (folder / "dated.yaml").write_text(yaml.safe_dump({**yaml.safe_load(ARRIVALS_CONFIG), **DATED}))
    _write_flights(folder / "flights.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # As `cli.main.main` does.
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        yield folder


def _write_flights(path: Path) -> None:
    flights = pd.read_csv(package_folder() / "flights.csv.zip", nrows=NUM_FLIGHTS)
    flights = flights[flights["arr_delay"].notna()]
    arrival = pd.cut(flights["arr_delay"], [-np.inf, -10, 15, np.inf], labels=CLASSES)
    table = pa.table(
        {
            "when": pa.array(pd.to_datetime(flights["time_hour"], utc=True)),
            "flight": pa.array(flights["carrier"] + flights["flight"].astype(str)),
            "carrier": pa.array(flights["carrier"]),
            "airports": pa.array(flights[["origin", "dest"]].to_numpy().tolist(), pa.list_(pa.string())),
            "distance": pa.array(flights["distance"]),
            "hour": pa.array(flights["hour"]),
            "arrival": pa.array(arrival.astype(str)),
        }
    )
    parquet.write_table(table, path)


@pytest.fixture(scope="module")
def command(home: Path) -> Run:
    """Run `perennial` with some words and a config; return the JSON document that it prints."""

    def run(*words: str, config: str) -> Any:
        outcome = CliRunner().invoke(perennial, [*words, "--config", config, "--json"], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return json.loads(outcome.stdout)

    return run


@pytest.fixture(scope="module")
def arrivals(home: Path, command: Run) -> Path:
    """Three days of flights as spans, from Parquet; return the pipeline's root."""
    report = command("ingest", "--spans", "1..3", config=ARRIVALS)
    assert [ref["span"] for ref in report["written"]] == [1, 2, 3]
    return home / "var/arrivals"


@pytest.fixture(scope="module")
def walk_through() -> list[str]:
    """The Python blocks of the document."""
    return re.findall(r"```python\n(.*?)```", WALK_THROUGH.read_text(encoding="utf-8"), re.DOTALL)


def _eval_labels_and_scores(root: Path, span: int, model: Path) -> tuple[list[str], Any]:
    folder = root / f"spans/span-{span:06d}/version-1"
    files = [folder / file.path for file in read_manifest(root / "spans", span, 1).files["eval"]]
    examples = list(tf.data.TFRecordDataset([str(file) for file in files], "GZIP").as_numpy_iterator())
    labels = [tf.train.Example.FromString(e).features.feature["arrival"].bytes_list.value[0].decode() for e in examples]
    return labels, Predictor(model).predict_examples(examples)


def test_the_walk_through_ends_with_a_champion(home: Path, command: Run, walk_through: list[str]):
    make_table, infer_schema, correct_table = walk_through
    exec(make_table, {})
    exec(infer_schema, {})
    inferred, reviewed = (
        feature_types(load_schema(Path(f))) for f in ("var/weather.pbtxt", "schemas/weather/schema.pbtxt")
    )
    assert reviewed.items() < inferred.items()
    command("ingest", "--spans", "1..3", config=WEATHER)
    fewer_epochs = ("--set", "training.epochs_cold=5", "--set", "training.epochs_warm=1")
    cold, blocked, warm = command("run", "--spans", "1..3", *fewer_epochs, config=WEATHER)
    assert [run["outcome"] for run in (cold, blocked, warm)] == ["pushed", "blocked", "pushed"]
    assert [run["plan"]["initialisation"] for run in (cold, warm)] == ["cold", "warm"]
    assert "wind_speed" in " ".join(blocked["reasons"])
    assert cold["gate"]["champion"] == {}
    assert warm["gate"]["champion"]["mean_squared_error"] > 0
    status = command("status", config=WEATHER)
    assert status["champion"]["span"] == 3
    assert [(s["state"], s["candidate_auc"]) for s in status["spans"]] == [
        ("pushed", None),
        ("blocked", None),
        ("pushed", None),
    ]
    weather = [
        "origin=JFK",
        "hour=14",
        "temp=50",
        "dewp=40",
        "humid=68",
        "wind_dir=180",
        "wind_speed=10",
        "pressure=1015",
    ]
    assert command("predict", *weather, config=WEATHER)["prediction"] == [pytest.approx(50, abs=5)]
    made = command("lineage", "model", "champion", config=WEATHER)
    assert [span["span"] for span in made["spans"]] == [1, 3]
    assert "mean squared error per span" in (home / "var/weather/summary.html").read_text(encoding="utf-8")
    exec(correct_table, {})
    assert [
        (ref["span"], ref["version"]) for ref in command("ingest", "--spans", "1..3", config=WEATHER)["written"]
    ] == [(2, 2)]


def test_classes_by_name_from_lists_in_parquet(arrivals: Path, command: Run):
    cold, warm = command("run", "--spans", "1..2", config=ARRIVALS)
    assert [run["outcome"] for run in (cold, warm)] == ["pushed", "pushed"]
    assert [run["plan"]["initialisation"] for run in (cold, warm)] == ["cold", "warm"]
    model = arrivals / "serving/arrivals" / str(warm["push"]["version"])
    labels, scores = _eval_labels_and_scores(arrivals, 2, model)
    indices = np.array([CLASSES.index(label) for label in labels])
    assert warm["gate"]["candidate"]["sparse_categorical_accuracy"] == pytest.approx(
        (scores.argmax(1) == indices).mean()
    )
    loss = -np.log(scores[np.arange(len(indices)), indices]).mean()
    assert warm["gate"]["candidate"]["sparse_categorical_crossentropy"] == pytest.approx(loss, rel=1e-4)
    words = ["carrier=UA", "airports=EWR", "airports=IAH", "distance=1400"]
    assert sum(command("predict", *words, config=ARRIVALS)["prediction"]) == pytest.approx(1, abs=1e-5)


def test_own_functions_over_spans_that_somebody_else_writes(home: Path, arrivals: Path, command: Run):
    for span in (1, 2):
        day = home / f"incoming/2013/01-{span + 1:02d}"
        day.mkdir(parents=True)
        for split in ("train", "eval"):
            (file,) = (arrivals / f"spans/span-{span:06d}/version-1/Split-{split}").iterdir()
            with gzip.open(file) as packed, (day / f"{split}.tfrecord").open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    (cold,), (warm,), (nothing,) = (command("run", "--next", config="dated.yaml") for _ in range(3))
    assert [run["outcome"] for run in (cold, warm)] == ["pushed", "pushed"]
    assert [run["plan"]["span"]["span"] for run in (cold, warm)] == [FIRST_DATED_SPAN, FIRST_DATED_SPAN + 1]
    assert warm["plan"]["initialisation"] == "warm"
    assert nothing["reason"] == "All spans are done; nothing new has arrived."
    measured = {finding["feature"] for finding in warm["drift"]["findings"]}
    assert "carrier" in measured
    assert "miles_per_hour" not in measured


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("ingest.source={kind: csv, path: a.csv, time_column: t}", ConfigError, r"source\.key_columns: Field required"),
        ("ingest.source.key_columns=[flihgt]", DataError, r"lacks columns \['flihgt'\].*Did you mean 'flight'"),
        ("ingest.source.time_column=carrier", DataError, r"'carrier' has \d+ values that are no time"),
        ("ingest.source.path=flihgts.parquet", DataError, r"relative paths start at the working directory"),
        ("label.name=arival", SchemaError, r"'arival' is not in the schema.*Did you mean 'arrival'"),
        ("label.classes=[late]", ConfigError, r"at least two distinct label\.classes.*received \['late'\]"),
        ("label={name: arrival, task: binary}", ConfigError, r"bounds of a binary label.*received \['sparse_categ"),
        ("training.model.kind=custom", ConfigError, r"training\.model\.function='module:function'"),
        (
            "label={name: distance, task: regression}",
            ConfigError,
            r"features without the label; received features with 'distance'",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(home: Path, override: str, error: type, message: str):
    with pytest.raises(error, match=message):
        CliRunner().invoke(perennial, ["ingest", "--config", ARRIVALS, "--set", override], catch_exceptions=False)


def test_a_regression_must_say_how_far_its_label_may_move(home: Path):
    regression = ["label={name: hour, task: regression}", "gate.bounds=[{metric: calibration, minimum: 0.9}]"]
    words = [word for override in regression for word in ("--set", override)]
    with pytest.raises(ConfigError, match=r"expected drift\.label_rate for a regression label"):
        CliRunner().invoke(perennial, ["ingest", "--config", ARRIVALS, *words], catch_exceptions=False)
