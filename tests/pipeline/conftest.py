import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.clock import ManualClock
from ingest.span_writer import write_manifest
from ledger.ledger import Ledger
from pipeline.arrivals import Discovery
from pipeline.config import load_config
from pipeline.controller import Controller
from pipeline.cycle import Listeners
from pipeline.decision import Decision
from pipeline.plan import Knowledge, RunPlan
from pipeline.record import Outcome
from schemas.features import FeatureSet, LabelSpec, NumericFeature, VocabularyFeature
from schemas.ledger_records import ChampionRecord, SpanRecord
from schemas.model_layout import SERVING_FOLDER
from schemas.spans import Manifest, SpanRef, span_folder
from schemas.training import ModelOptions, ModelShape
from serving.version_store import stage

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHAPE = ModelShape(
    feature_set=FeatureSet(
        features={"dest": VocabularyFeature(kind="vocabulary"), "temp": NumericFeature(kind="numeric")},
        label=LabelSpec(name="late"),
    ),
    model=ModelOptions(),
)


def _ref(span: int, version: int = 1) -> SpanRef:
    return SpanRef(span=span, version=version, digest=f"digest-{span}-{version}")


@pytest.fixture
def make_ref() -> Callable[..., SpanRef]:
    return _ref


@pytest.fixture(scope="session")
def make_champion() -> Callable[..., ChampionRecord]:
    def make(**changes: Any) -> ChampionRecord:
        fields = {
            "version": 4,
            "run_id": "run-8",
            "span": 8,
            "span_version": 1,
            "model_uri": "/models/8",
            "model_digest": "m",
            "training_digest": "t",
            "transform_graph_uri": "/transform/8",
            "transform_span": 8,
            "statistics_uri": "/statistics/8",
            "model_shape": SHAPE.model_dump_json(),
            "pushed_at": NOW,
            "moved_at": NOW,
        }
        return ChampionRecord.model_validate({**fields, **changes})

    return make


@pytest.fixture(scope="session")
def make_knowledge() -> Callable[..., Knowledge]:
    """Spans 1..num_spans on disk, of which `states` (by span) have a row in the ledger."""

    def make(
        num_spans: int,
        states: dict[int, str] | None = None,
        champion: ChampionRecord | None = None,
        unusable: dict[int, str] | None = None,
        last_full_training_span: int | None = None,
    ) -> Knowledge:
        records = [
            SpanRecord.model_validate(
                {
                    **_ref(span).model_dump(),
                    "state": state,
                    "num_examples": 10,
                    "statistics_uri": None if state in ("arrived", "trained") else f"/statistics/{span}",
                    "replay_uri": f"/replay/{span}" if state == "pushed" else None,
                    "prequential": {"auc": span / 100} if state == "pushed" else None,
                    "updated_at": NOW,
                }
            )
            for span, state in (states or {}).items()
        ]
        return Knowledge(
            spans=tuple(_ref(span) for span in range(1, num_spans + 1) if span not in (unusable or {})),
            unusable=unusable or {},
            records=tuple(records),
            champion=champion,
            shape=SHAPE,
            last_full_training_span=last_full_training_span,
        )

    return make


@pytest.fixture
def shape() -> ModelShape:
    """Shape of the config that all champions here were made from."""
    return SHAPE


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Write conf/flights.yaml with some top-level keys replaced."""

    def write(**changes: Any) -> Path:
        tree = yaml.safe_load(Path("conf/flights.yaml").read_text())
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump({**tree, **changes}))
        return path

    return write


class FakeDag:
    """A DAG without TFX: the nodes of a cycle pass in no time, and what they did is remembered as ML Metadata would.

    Attributes:
        finished: `(run id, node)` of every node that was published, in order.
        given_up: Runs that nobody goes on with.
        before: Called with plan and node before each node; raises what shall go wrong there.
        words: How the run of a span ends, if not `pushed`.
    """

    NODES = ("ExampleGen", "StatisticsGen", "DriftGate", "ReplayGen", "Transform", "Trainer", "Gate", "Pusher")
    JUDGING = ("ExampleGen", "Gate", "Pusher")
    runner = "fake"
    code_digest = "code"

    def __init__(self, config: Any) -> None:
        self.config = config
        self.finished: list[tuple[str, str]] = []
        self.given_up: list[str] = []
        self.words: dict[int, str] = {}
        self.before: Callable[[RunPlan, str], None] = lambda plan, node: None

    def give_up(self, run_id: str, fenced: Any) -> None:
        with fenced():
            self.given_up.append(run_id)

    def nodes(self, plan: RunPlan) -> tuple[str, ...]:
        word = self.words.get(plan.span.span, "pushed")
        if plan.candidate_uri is not None:
            return self.JUDGING
        if word in ("blocked", "cold_start") and plan.initialisation != "cold":
            return self.NODES[:3]
        return self.NODES[:4] if plan.action == "score" else self.NODES

    def run(self, plan: RunPlan, observer: Any) -> None:
        for node in self.nodes(plan):
            if (plan.run_id, node) in self.finished:
                continue
            observer.node_started(node)
            self.before(plan, node)
            if node == "Trainer":
                self._write_model(plan)
            if node == "Pusher" and self._word(plan) == "pushed":
                stage(self._model(plan) / SERVING_FOLDER, self.config.serving_path, plan.push_version)
            with observer.fenced():
                self.finished.append((plan.run_id, node))
            observer.node_finished(node)

    def trained(self) -> list[str]:
        """Return the runs that trained a model, in order."""
        return [run_id for run_id, node in self.finished if node == "Trainer"]

    def _word(self, plan: RunPlan) -> str:
        word = self.words.get(plan.span.span, "pushed")
        if plan.action == "score":
            return "scored"
        return "pushed" if word in ("cold_start", "blocked") and plan.initialisation == "cold" else word

    def _model(self, plan: RunPlan) -> Path:
        return self.config.artifacts_path / "Trainer" / "model" / (plan.candidate_run_id or plan.run_id)

    def _replay_buffer(self, span: int) -> str:
        folder = self.config.artifacts_path / "replay" / str(span)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def _write_model(self, plan: RunPlan) -> None:
        folder = self._model(plan) / SERVING_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_text(plan.run_id)

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        word = self._word(plan)
        model = str(self._model(plan))
        is_judged = word in ("pushed", "rejected")
        span = plan.span.span
        return Outcome.model_validate(
            {
                "word": word,
                "reasons": (f"{word}.",),
                "drift": {"verdict": "block" if word == "blocked" else "pass", "findings": ()},
                "gate": {
                    "is_blessed": word == "pushed",
                    "rows": (),
                    "candidate": {"auc": 0.7},
                    "champion": {},
                    "reasons": (),
                }
                if is_judged
                else None,
                "push": {"version": plan.push_version, "destination": "x", "is_champion": False}
                if word == "pushed"
                else None,
                "model": {
                    "model_uri": model,
                    "model_digest": "m",
                    "training_digest": "t",
                    "transform_graph_uri": plan.transform_graph_uri or f"/transform/{span}",
                }
                if is_judged
                else None,
                "training": {"initialisation": plan.initialisation},
                "statistics_uri": f"/statistics/{span}",
                "window_statistics_uri": f"/statistics/{span}",
                "replay_uri": self._replay_buffer(span),
                "seconds": dict.fromkeys(self.nodes(plan), 0.0),
            }
        )


@dataclass
class Small:
    """A pipeline in a folder of its own, with a fake DAG and a clock that is moved by hand."""

    config: Any
    ledger: Ledger
    clock: ManualClock
    dag: FakeDag
    steps: list[str]

    def add_span(self, span: int, version: int = 1, text: str = "") -> SpanRef:
        """Put a span's manifest on disk; its files are nobody's business here."""
        file = {"path": "Split-train/a", "sha256": f"{span}-{version}-{text}", "num_bytes": 1, "num_examples": 10}
        manifest = Manifest.model_validate({"span": span, "version": version, "files": {"train": [file]}})
        folder = span_folder(self.config.spans_path, span, version)
        folder.mkdir(parents=True)
        write_manifest(folder, manifest)
        return manifest.ref

    def register(self) -> None:
        """Register what has arrived, as the daemon does while a cycle runs."""
        Discovery(self.config).register(self.ledger)

    def controller(self, **changes: Any) -> Controller:
        """Return a controller as a new process would make it; `step` is called before each step of the record."""
        step = changes.pop("step", None)

        def on_step(name: str) -> None:
            self.steps.append(name)
            if step is not None:
                step(name)

        config = self.config.model_copy(update=changes)
        return Controller(config, self.ledger, dag=self.dag, listeners=Listeners(step=on_step), clock=self.clock)

    def states(self) -> dict[int, str]:
        """Return the state of the newest version of every span."""
        return {record.span: record.state for record in self.ledger.spans()}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """A pipeline with spans 1 to 4, of which the first cold start learns from 1 and 2."""
    config = load_config(
        Path("conf/flights.yaml"), (f"root={tmp_path}", "window.cold_spans=2", "retries.backoff_seconds=0")
    )
    clock = ManualClock(NOW)
    with Ledger.open(config.ledger_url, config.name, clock=clock) as ledger:
        pipeline = Small(config, ledger, clock, FakeDag(config), [])
        for span in range(1, 5):
            pipeline.add_span(span)
        yield pipeline


@pytest.fixture
def with_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program `java` be on the PATH, alone there, that does nothing."""
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.fixture
def make_jar(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Make a jar of files, by name and text."""

    def make(files: dict[str, str]) -> Path:
        path = tmp_path / "job-server.jar"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return path

    return make
