"""The last task of a run records it: in the ledger, in serving, once, and for whoever holds the lease."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from core.errors import ConfigError, LeaseLostError, LedgerError, LineageError, ServingError
from ledger.ledger import Ledger
from lineage.store import connection_config
from pipeline.config import Config, load_config
from pipeline.cycle import read_decision_of
from pipeline.kubeflow.recorder import main, record
from pipeline.kubeflow.uris import LOCAL_ROOT_VARIABLE, local_path
from pipeline.plan import RunPlan
from schemas import provenance
from schemas.gate import GATE_REPORT_FILE
from schemas.ledger_records import RunStart, SpanArrival
from schemas.model_layout import SERVING_FOLDER, TRAINING_FOLDER
from schemas.spans import SpanRef
from schemas.verdicts import DRIFT_REPORT_FILE
from serving.version_store import hidden_versions, stage, versions
from trainer.training_record import TRAINING_RECORD_FILE

RUN_ID = "run-1"
REF = SpanRef(span=1, version=1, digest="d")
GATE = {"is_blessed": True, "rows": (), "candidate": {"auc": 0.7}, "champion": {}, "reasons": ()}


class ClusterRun:
    """A run whose DAG a cluster has finished: a plan in the ledger, nodes in ML Metadata, and what was brought here.

    A worker holds the lease, as the one that submitted it does.
    """

    def __init__(self, root: Path) -> None:
        # Of a binary label the first model would be scored, which takes TensorFlow.
        bound = "gate.bounds=[{metric: mean_squared_error, maximum: 1}]"
        regression = ("label.task=regression", bound, "drift.label_rate={warn: null, block: null}")
        options = (f"root={root}", "runner=kubeflow", *regression)
        self.config: Config = load_config(Path("conf/flights.yaml"), options)
        self.output_file = root / "output_metadata.json"
        self.brought: dict[str, str] = {}
        self.worker = Ledger.open(self.config.ledger_url, self.config.name)
        self.worker.acquire(ttl_seconds=60)
        self.worker.register_spans([SpanArrival(ref=REF, num_examples=10)])
        self.plan = self._plan()
        start = RunStart(run_id=RUN_ID, span=1, version=1, trigger="next", plan=self.plan.model_dump_json())
        self.worker.start_run(start)
        self.store = MetadataStore(connection_config(self.config.metadata_url))
        self.node("StatisticsGen", "statistics", "ExampleStatistics", {})

    def _plan(self) -> RunPlan:
        return RunPlan(
            run_id=RUN_ID,
            trigger="next",
            span=REF,
            window=(REF,),
            initialisation="cold",
            champion=None,
            base=None,
            line_length=0,
            transform_graph_uri=None,
            analysis_window=(REF,),
            previous_statistics_uri=None,
            reference_statistics_uri=None,
            replay_uri=None,
            prequential_history=(),
            is_prequential=False,
            is_shadow=False,
            push_version=self.worker.reserve_version(),
            why=("No champion yet.",),
        )

    def node(self, node: str, key: str, kind: str, files: dict[str, str], **properties: str | int) -> Path:
        """Record a node with one output, and bring the output's files."""
        uri = f"minio://bucket/{node}/{key}"
        for name, text in files.items():
            (local_path(uri) / name).parent.mkdir(parents=True, exist_ok=True)
            (local_path(uri) / name).write_text(text)
            self.brought[f"{node}.{key}"] = uri
        artifact = mlmd.Artifact(
            type_id=self.store.put_artifact_type(mlmd.ArtifactType(name=kind)), uri=uri, state=mlmd.Artifact.LIVE
        )
        for name, value in properties.items():
            field = "int_value" if isinstance(value, int) else "string_value"
            setattr(artifact.custom_properties[name], field, value)
        event = mlmd.Event(type=mlmd.Event.OUTPUT)
        event.path.steps.add().key = key
        event.path.steps.add().index = 0
        execution = mlmd.Execution(
            type_id=self.store.put_execution_type(mlmd.ExecutionType(name=node)),
            last_known_state=mlmd.Execution.COMPLETE,
        )
        contexts = [
            mlmd.Context(type_id=self.store.put_context_type(mlmd.ContextType(name=kind)), name=name)
            for kind, name in (("pipeline_run", RUN_ID), ("node", f"{self.config.name}.{node}"))
        ]
        self.store.put_execution(execution, [(artifact, event)], contexts, reuse_context_if_already_exist=True)
        return local_path(uri)

    def block(self) -> None:
        """Let drift block the run."""
        finding = {"verdict": "block", "findings": []}
        self.node("DriftGate", "verdict", "DriftVerdict", {DRIFT_REPORT_FILE: json.dumps(finding)})

    def push(self) -> None:
        """Let the run train a model that the gate blesses, and stage it."""
        passing = {"verdict": "pass", "findings": []}
        self.node("DriftGate", "verdict", "DriftVerdict", {DRIFT_REPORT_FILE: json.dumps(passing)})
        self.node("Transform", "transform_graph", "TransformGraph", {})
        files = {
            f"{SERVING_FOLDER}/saved_model.pb": "the graph",
            f"{TRAINING_FOLDER}/{TRAINING_RECORD_FILE}": json.dumps({"initialisation": "cold"}),
        }
        digests = {provenance.MODEL_DIGEST: "m", provenance.TRAINING_DIGEST: "t"}
        model = self.node("Trainer", "model", "Model", files, **digests)
        self.node("Gate", "report", "GateVerdict", {GATE_REPORT_FILE: json.dumps(GATE)})
        version = self.plan.push_version
        pushed = {provenance.PUSHED: 1, provenance.PUSHED_VERSION: version, provenance.PUSHED_DESTINATION: "x"}
        self.node("Pusher", "pushed_model", "PushedModel", {}, **pushed)
        stage(model / SERVING_FOLDER, self.config.serving_path, version)

    def record(self, **changes: str) -> int:
        """Run the recorder's command line, and return its exit code."""
        asked = {
            "inputs": {
                "artifacts": {key: {"artifacts": [{"uri": uri}]} for key, uri in self.brought.items()},
                "parameterValues": {"run_id": RUN_ID},
            },
            "outputs": {"outputFile": str(self.output_file)},
        }
        words = {"config": self.config.model_dump_json(), "run-id": RUN_ID, "executor-input": json.dumps(asked)}
        return main([word for name, value in (words | changes).items() for word in (f"--{name}", value)])

    def state(self) -> tuple[str | None, str, int | None]:
        """Return the run's outcome, the span's state, and the champion."""
        champion = self.worker.champion()
        return self.worker.run(RUN_ID).outcome, self.worker.span(REF).state, champion.version if champion else None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterRun]:
    monkeypatch.setenv(LOCAL_ROOT_VARIABLE, str(tmp_path / "launcher"))
    made = ClusterRun(tmp_path / "root")
    yield made
    made.worker.close()


def test_a_pushed_model_serves_and_the_ledger_keeps_the_decision(run: ClusterRun) -> None:
    run.push()
    assert run.record() == 0
    assert run.state() == ("pushed", "pushed", 1)
    assert versions(run.config.serving_path) == [1]
    decision = read_decision_of(run.worker, RUN_ID)
    assert (decision.outcome, decision.runner) == ("pushed", "kubeflow")
    assert decision.model == {
        "model_uri": "minio://bucket/Trainer/model",
        "model_digest": "m",
        "training_digest": "t",
        "transform_graph_uri": "minio://bucket/Transform/transform_graph",
    }
    assert decision.started_at == run.worker.run(RUN_ID).started_at
    assert run.output_file.read_text() == "{}"


def test_a_blocked_run_is_recorded_without_a_model(run: ClusterRun) -> None:
    run.block()
    assert run.record() == 0
    assert run.state() == ("blocked", "blocked", None)


def test_a_run_that_is_recorded_already_stays_as_it_is(run: ClusterRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.block()
    run.record()
    document = run.worker.decision(RUN_ID)
    # KFP starts it again: the pod died after the record, and nothing was brought.
    run.brought["DriftGate.verdict"] = "minio://bucket/gone"
    assert run.record() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Run 'run-1' is closed already: blocked. Nothing was recorded."
    assert run.worker.decision(RUN_ID) == document


def test_a_killed_record_is_finished_by_the_next(run: ClusterRun) -> None:
    run.push()

    class KilledError(Exception):
        pass

    class DiesAtTheEnd(Ledger):
        def finish_run(self, *arguments: Any, **options: Any) -> None:
            raise KilledError

    with DiesAtTheEnd.open(run.config.ledger_url, run.config.name) as ledger, pytest.raises(KilledError):
        record(run.config, ledger, RUN_ID)
    assert run.state() == (None, "pushed", 1)
    assert run.record() == 0
    assert run.state() == ("pushed", "pushed", 1)
    assert len(run.worker.champion_moves()) == 1


def test_another_worker_stops_the_record_and_the_next_attempt_writes_for_it(run: ClusterRun) -> None:
    run.push()
    taken: list[Ledger] = []

    class TakenOver(Ledger):
        def record_model(self, *arguments: Any, **options: Any) -> None:
            run.worker.release()
            taken.append(Ledger.open(run.config.ledger_url, run.config.name))
            taken[0].acquire(ttl_seconds=60)
            super().record_model(*arguments, **options)

    with TakenOver.open(run.config.ledger_url, run.config.name) as ledger, pytest.raises(LeaseLostError):
        record(run.config, ledger, RUN_ID)
    with closing(taken[0]):
        assert run.state() == (None, "arrived", None)
        assert run.record() == 0
        assert run.state() == ("pushed", "pushed", 1)


def test_what_was_not_brought_is_named(run: ClusterRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.push()
    run.brought["Gate.report"] = "minio://bucket/gone"
    assert run.record() == LineageError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("Lineage error: Run 'run-1' could not be recorded. Input 'Gate.report' has no files. ")
    assert run.state() == (None, "arrived", None)
    assert not run.output_file.exists()


def test_a_champion_that_is_nowhere_in_reach_is_no_crash(run: ClusterRun, capsys: pytest.CaptureFixture[str]) -> None:
    """The pointer moved, then the shared volume lost the version: the store cannot be asked from here."""
    run.push()
    for version in hidden_versions(run.config.serving_path):
        (run.config.serving_path / f".hidden-{version}" / "saved_model.pb").unlink()
        (run.config.serving_path / f".hidden-{version}").rmdir()
    serving = local_path(run.brought["Trainer.model"]) / SERVING_FOLDER
    (serving / "saved_model.pb").unlink()
    serving.rmdir()
    assert run.record() == ServingError.exit_code
    assert "Copy 'minio://bucket/Trainer/model/Format-Serving' to " in capsys.readouterr().err
    assert run.state() == (None, "arrived", 1)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"run-id": "run-9"}, LedgerError, "run-9"),
        ({"config": "{}"}, ConfigError, "--config is no config of this Perennial"),
        ({"executor-input": "{{$}}"}, ConfigError, "--executor-input is no JSON"),
    ],
    ids=["unknown run", "config", "executor input"],
)
def test_wrong_words_are_refused(
    run: ClusterRun,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    error: type[LedgerError],
    words: str,
) -> None:
    assert run.record(**changes) == error.exit_code
    assert words in capsys.readouterr().err


def test_another_ledger_is_refused_and_none_is_made(
    run: ClusterRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_elsewhere: Callable[[Config], Config]
) -> None:
    elsewhere = make_elsewhere(run.config)
    assert run.record(config=elsewhere.model_dump_json()) == LedgerError.exit_code
    assert "has no ledger here" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def make_elsewhere(tmp_path: Path) -> Callable[[Config], Config]:
    return lambda config: config.model_copy(update={"root": str(tmp_path / "elsewhere")})
