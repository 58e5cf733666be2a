"""Small flights-like TFRecord files, a real transform graph over them, and requests to train on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils

from core.digests import digest_of_folder
from schemas.analysis import Analysis
from schemas.features import FeatureSet
from schemas.replay import MEMBERSHIP_FILE, REPLAY_EXAMPLES_FILE, Membership
from schemas.training import Initialisation, TrainerRequest, TrainingOptions
from trainer.analysis import read_analysis
from trainer.batches import LoadedBatches, Packing
from trainer.examples import StreamedExamples, load_examples
from trainer.input_data import TrainingData, matching_files
from trainer.learner import Learner
from trainer.model import build_model
from trainer.objective import AnchoredModel
from trainer.replayed_examples import ReplayedExamples
from trainer.run_fn import run_fn
from trainer.survey import survey_examples
from trainer.transform_graph import TransformGraph
from transform.in_process import InProcessTransform
from transform.preprocessing import preprocessing_fn

FEATURES: dict[str, Any] = {
    "carrier": {"kind": "vocabulary", "capacity": 20, "embedding_dim": 3},
    "tailnum": {"kind": "hashed", "num_buckets": 50, "embedding_dim": 3},
    "tags": {"kind": "vocabulary", "capacity": 10, "multivalued": True, "max_values": 3},
    "hour": {"kind": "cyclic", "period": 24},
    "distance": {"kind": "bucketized", "num_buckets": 4},
    "wind": {"kind": "numeric", "missing_indicator": True},
}
RAW_SPEC: dict[str, Any] = {
    "carrier": tf.io.VarLenFeature(tf.string),
    "tailnum": tf.io.FixedLenFeature([1], tf.string),
    "tags": tf.io.VarLenFeature(tf.string),
    "hour": tf.io.FixedLenFeature([], tf.int64),
    "distance": tf.io.VarLenFeature(tf.float32),
    "wind": tf.io.VarLenFeature(tf.float32),
    "key": tf.io.VarLenFeature(tf.string),
}
LABELS: dict[str, tuple[dict[str, Any], Any]] = {
    "binary": ({"name": "late"}, tf.io.VarLenFeature(tf.int64)),
    "multiclass": (
        {"name": "outcome", "task": "multiclass", "classes": ["early", "late", "on time"]},
        tf.io.VarLenFeature(tf.string),
    ),
    "regression": ({"name": "delay", "task": "regression"}, tf.io.FixedLenFeature([1], tf.float32)),
}
Row = dict[str, list[Any]]


@dataclass(frozen=True)
class Flights:
    """One task's data: rows, their files, the feature set and the transform graph analysed from them."""

    feature_set: FeatureSet
    rows: list[Row]
    serialized: list[bytes]
    files: str
    graph: Path


def make_rows(num_rows: int, seed: int) -> list[Row]:
    """Return rows in which lateness depends on carrier, hour and wind; some values are missing."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for index in range(num_rows):
        carrier, hour, wind = int(random.integers(6)), int(random.integers(24)), float(random.gamma(2.0, 5.0))
        delay = 3.0 * carrier + 0.5 * hour + wind + float(random.normal(0.0, 5.0)) - 24.0
        rows.append(
            {
                "carrier": [f"C{carrier}"] if index % 17 else [],
                "tailnum": [f"N{int(random.integers(200))}"],
                "tags": [f"t{tag}" for tag in range(index % 5)],
                "hour": [hour],
                "distance": [float(random.integers(100, 3000))] if index % 13 else [],
                "wind": [wind] if index % 11 else [],
                "key": [str(index)],
                "late": [int(delay > 0)],
                "outcome": [["early", "on time", "late"][int(delay > -10) + int(delay > 0)]],
                "delay": [delay],
            }
        )
    return rows


def encode(row: Row) -> bytes:
    """Return a row as a serialized tf.Example."""
    features = {}
    for name, values in row.items():
        if all(isinstance(value, str) for value in values):
            encoded = [value.encode() for value in values]
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
        elif all(isinstance(value, int) for value in values):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    present = {name: feature for name, feature in features.items() if row[name]}
    return bytes(tf.train.Example(features=tf.train.Features(feature=present)).SerializeToString())


def write_records(file: Path, records: list[bytes]) -> Path:
    """Write one gzipped TFRecord file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for record in records:
            writer.write(record)
    return file


def analyse(
    feature_set: FeatureSet, spec: dict[str, Any], rows: list[Row], folder: Path, base: Analysis | None = None
) -> None:
    """Write a TransformGraph folder as TFX Transform lays it out, refreshed from `base` where there is one."""
    config = {"feature_set": feature_set.model_dump_json()}
    if base is not None:
        config["base_analysis"] = base.model_dump_json()
    file = write_records(folder.parent / "analysed.gz", [encode(row) for row in rows])
    schema = schema_utils.schema_from_feature_spec(spec)
    transform = InProcessTransform(lambda inputs: preprocessing_fn(inputs, config), schema, folder.parent / "temporary")
    transform.write(transform.analyse([file]), folder)


@pytest.fixture(scope="session")
def write_tfrecords() -> Callable[[Path, list[bytes]], Path]:
    """Write serialized examples to one gzipped TFRecord file."""
    return write_records


@pytest.fixture(scope="session")
def make_examples() -> Callable[..., list[bytes]]:
    """Make serialized flights; keyword arguments replace columns, `None` removes one."""

    def make(num_rows: int, seed: int = 0, **columns: list[Any] | None) -> list[bytes]:
        changes = {name: values or [] for name, values in columns.items()}
        return [encode({**row, **changes}) for row in make_rows(num_rows, seed)]

    return make


@pytest.fixture(scope="session")
def flights_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Flights]:
    """Return data and transform graph for a task, analysed once per session."""
    made: dict[str, Flights] = {}

    def make(task: str) -> Flights:
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            label, label_spec = LABELS[task]
            feature_set = FeatureSet.model_validate({"features": FEATURES, "label": label})
            rows = make_rows(1000, seed=1)
            serialized = [encode(row) for row in rows]
            for part in range(3):
                write_records(folder / "train" / f"data-{part}.tfrecord.gz", serialized[part::3])
            analyse(feature_set, {**RAW_SPEC, label["name"]: label_spec}, rows, folder / "graph")
            made[task] = Flights(feature_set, rows, serialized, str(folder / "train" / "*"), folder / "graph")
        return made[task]

    return make


@pytest.fixture(scope="session")
def flights(flights_for: Callable[[str], Flights]) -> Flights:
    """Data and transform graph of the binary task."""
    return flights_for("binary")


@pytest.fixture(scope="session")
def refreshed_flights(flights: Flights, tmp_path_factory: pytest.TempPathFactory) -> Flights:
    """A later span of the binary task: stronger wind, a new carrier, and the transform graph refreshed on it."""
    folder = tmp_path_factory.mktemp("refreshed")
    rows = make_rows(300, seed=2)
    for index, row in enumerate(rows):
        row["wind"] = [2.0 * wind + 5.0 for wind in row["wind"]]
        row["carrier"] = ["NEW"] if index % 3 == 0 else row["carrier"]
        row["distance"] = [3.0 * distance for distance in row["distance"]]
    serialized = [encode(row) for row in rows]
    write_records(folder / "train" / "data.tfrecord.gz", serialized)
    graph = TransformGraph(flights.graph, flights.feature_set)
    counts = survey_examples(matching_files([flights.files]), flights.feature_set, graph.raw_types).token_counts
    base = read_analysis(graph, base=None, token_counts=counts)
    analyse(flights.feature_set, {**RAW_SPEC, "late": LABELS["binary"][1]}, rows, folder / "graph", base)
    return Flights(flights.feature_set, rows, serialized, str(folder / "train" / "*"), folder / "graph")


SMALL_FEATURES: dict[str, Any] = {
    "a": {"kind": "numeric"},
    "b": {"kind": "numeric"},
    "c": {"kind": "vocabulary", "capacity": 4, "embedding_dim": 2},
}
NUM_SMALL_EXAMPLES = 40


@pytest.fixture(scope="session")
def write_replay(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], Path]:
    """Write a replay buffer's train split, and return its folder."""

    def write(records: list[bytes]) -> Path:
        folder = tmp_path_factory.mktemp("replay")
        write_records(folder / REPLAY_EXAMPLES_FILE.format(split="train"), records)
        members = {"train": {"1-1": len(records)}, "eval": {}}
        membership = Membership(num_seen={"train": len(records), "eval": 0}, members=members)
        (folder / MEMBERSHIP_FILE).write_text(membership.model_dump_json())
        return folder

    return write


@pytest.fixture(scope="session")
def small() -> Callable[..., tuple[AnchoredModel, dict[str, Any], Any]]:
    """Build a compiled model of a task with random weights, and inputs and labels; keywords are training options."""

    def build(task: str = "binary", **options: Any) -> tuple[AnchoredModel, dict[str, Any], Any]:
        feature_set = FeatureSet.model_validate({"features": SMALL_FEATURES, "label": LABELS[task][0]})
        model = build_model(feature_set, TrainingOptions(**{"model": {"kind": "linear"}, **options}))
        random = np.random.default_rng(1)
        for weight in model.weights:
            weight.assign(random.normal(scale=0.5, size=weight.shape))
        shape = (NUM_SMALL_EXAMPLES, 1)
        inputs = {name: random.normal(size=shape).astype("float32") for name in ("a", "b")}
        inputs["c"] = random.integers(0, 5, size=shape)
        labels = random.normal(size=shape) if task == "regression" else random.integers(0, 2, size=shape)
        return model, inputs, labels

    return build


@pytest.fixture(scope="session")
def small_learner(small: Callable[..., tuple[AnchoredModel, dict[str, Any], Any]]) -> Callable[..., Any]:
    """Make what trains a small model of a task, and batches of 10 for it; keywords are training options."""

    def make(task: str = "binary", **options: Any) -> tuple[Learner, LoadedBatches]:
        model, inputs, labels = small(task, **options)
        feature_set = FeatureSet.model_validate({"features": SMALL_FEATURES, "label": LABELS[task][0]})
        learner = Learner(model, feature_set, TrainingOptions(**{"model": {"kind": "linear"}, **options}))
        packing = Packing(feature_set)
        columns = packing.packed(inputs, tf.constant(labels))
        return learner, LoadedBatches(columns, packing, np.arange(NUM_SMALL_EXAMPLES), batch_size=10)

    return make


@pytest.fixture
def fn_args(tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Make TFX `FnArgs` that ask for a training run, cold without a base; more keywords are training options."""

    def make(
        flights: Flights,
        name: str,
        base: Path | None = None,
        *,
        start: Initialisation = "warm",
        replay: Path | None = None,
        **options: Any,
    ) -> SimpleNamespace:
        request = TrainerRequest(
            feature_set=flights.feature_set,
            options=TrainingOptions(**{"batch_size": 100, **options}),
            initialisation="cold" if base is None else start,
            base_model_digest=None if base is None else digest_of_folder(base / "Format-Training"),
            line_length=0 if base is None else 1,
            checkpoint_dir=str(tmp_path / "checkpoints" / name),
        )
        custom_config = {"request": request.model_dump_json()}
        if replay is not None:
            custom_config["replay_folder"] = str(replay)
        return SimpleNamespace(
            custom_config=custom_config,
            train_files=[flights.files],
            transform_graph_path=str(flights.graph),
            base_model=None if base is None else str(base / "Format-Serving"),
            serving_model_dir=str(tmp_path / name / "Format-Serving"),
            model_run_dir=str(tmp_path / name / "logs"),
        )

    return make


@pytest.fixture(scope="session")
def base_model(flights: Flights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Model artifact's folder, trained cold on the binary task."""
    folder = tmp_path_factory.mktemp("base")
    options = TrainingOptions(batch_size=100, epochs_cold=2, learning_rate=0.01)
    request = TrainerRequest(
        feature_set=flights.feature_set,
        options=options,
        initialisation="cold",
        checkpoint_dir=str(folder / "checkpoints"),
    )
    run_fn(
        SimpleNamespace(
            custom_config={"request": request.model_dump_json()},
            train_files=[flights.files],
            transform_graph_path=str(flights.graph),
            base_model=None,
            serving_model_dir=str(folder / "Format-Serving"),
            model_run_dir=str(folder / "logs"),
        )
    )
    return folder


@pytest.fixture(scope="session")
def training_data(make_data: Callable[..., TrainingData]) -> TrainingData:
    """The binary task's train split as the trainer reads it."""
    return make_data()


@pytest.fixture(scope="session")
def make_data(flights: Flights) -> Callable[..., TrainingData]:
    """Make the binary task's train split as the trainer reads it, with past examples or not, in memory or streamed."""
    files = matching_files([flights.files])
    graph = TransformGraph(flights.graph, flights.feature_set)
    records = survey_examples(files, flights.feature_set, graph.raw_types, max_kept=1000).records or ()

    def make(replayed: ReplayedExamples | None = None, *, is_loaded: bool = True) -> TrainingData:
        past_file = replayed.file if replayed else None
        examples = load_examples(records, graph, replayed) if is_loaded else StreamedExamples(files, graph, past_file)
        return TrainingData(
            examples, len(flights.rows), batch_size=100, validation_fraction=0.1, seed=3, replayed=replayed
        )

    return make
