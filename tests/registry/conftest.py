"""A pipeline that has run a few cycles: its ledger, its ML Metadata and its files, without TensorFlow or TFX."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from cli.main import perennial
from core.clock import ManualClock
from ledger.ledger import Ledger
from pipeline.config import Config, load_config
from pipeline.kubeflow.uris import LOCAL_ROOT_VARIABLE, local_path
from pipeline.plan import RunPlan
from pipeline.registry import serve_champion
from schemas.ledger_records import ModelRecord, RunStart, SpanArrival, SpanOutcome
from schemas.model_layout import SERVING_FOLDER
from schemas.spans import SpanRef
from serving.version_store import stage

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"


class PipelineOnDisk:
    """Makes cycles by hand. Every node's output is a folder with one file of ten bytes, a model's has two."""

    def __init__(self, root: Path, store: str | None = None) -> None:
        """Make it below `root`; artifacts too, or where `local_path` has those of an object store."""
        self._artifacts = store or str(root / "artifacts")
        options = (f"root={root}", "registry.keep_last=2", "window.cold_spans=1", "corrections.max_rerun_spans=1")
        self.words = ("--config", str(CONFIG), *(word for option in options for word in ("--set", option)))
        self.config: Config = load_config(CONFIG, options)
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.ledger = Ledger.open(self.config.ledger_url, self.config.name, clock=self.clock)
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(self.config.metadata_path)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = MetadataStore(config)

    def cycle(self, span: int, outcome: str | None = "pushed", *, base: int | None = None) -> int:
        """Run the cycle of a span, warm from version `base`, and return the version that was reserved for it."""
        self.clock.advance(3600)
        ref = SpanRef(span=span, version=1, digest=f"{span:064x}")
        self.ledger.register_spans([SpanArrival(ref=ref, num_examples=10)])
        champion = self.ledger.champion()
        based = self.ledger.model(base) if base else None
        plan = RunPlan(
            run_id=f"run-{span}",
            trigger="next",
            span=ref,
            window=(ref,),
            initialisation="warm" if based else "cold",
            champion=champion,
            base=based,
            line_length=based.line_length + 1 if based else 0,
            transform_graph_uri=based.transform_graph_uri if based else None,
            analysis_window=() if based else (ref,),
            previous_statistics_uri=None,
            reference_statistics_uri=None,
            replay_uri=None,
            prequential_history=(),
            is_prequential=False,
            is_shadow=False,
            push_version=self.ledger.reserve_version(),
            why=(),
        )
        self.ledger.start_run(
            RunStart(run_id=plan.run_id, span=span, version=1, trigger="next", plan=plan.model_dump_json())
        )
        self._checkpoint(plan)
        self._node(plan.run_id, "ExampleGen", "examples", "Examples")
        statistics = self._node(plan.run_id, "StatisticsGen", "statistics", "ExampleStatistics")
        buffer = self._node(plan.run_id, "ReplayGen", "buffer", "ReplayBuffer")
        graph = plan.transform_graph_uri or self._node(plan.run_id, "Transform", "transform_graph", "TransformGraph")
        made = self._node(plan.run_id, "Trainer", "model", "Model")
        (local_path(made) / SERVING_FOLDER).mkdir()
        (local_path(made) / SERVING_FOLDER / "saved_model.pb").write_bytes(b"graph of " + str(span).encode())
        found = {"statistics_uri": statistics, "replay_uri": buffer}
        if outcome == "pushed":
            self._push(plan, made, graph, champion, found)
        if outcome in ("pushed", "rejected"):
            for state in ("validated", "trained", "evaluated"):
                self.ledger.move_span(ref, state, run_id=plan.run_id)
            self.ledger.finish_span(
                ref, SpanOutcome.model_validate({"state": outcome, "run_id": plan.run_id, "reason": "told to", **found})
            )
        if outcome == "blocked":
            self.ledger.move_span(ref, "blocked", run_id=plan.run_id, reason="told to", statistics_uri=statistics)
        if outcome is not None:
            self.ledger.finish_run(plan.run_id, outcome)  # type: ignore[arg-type]  # a test names it as a text
        return plan.push_version

    def folders(self) -> set[str]:
        """Return the folders of artifacts, as NODE/SPAN OF ITS RUN, e.g. `Trainer/4`."""
        found = {str(folder) for folder in self.config.artifacts_path.glob("*/[!.]*/*")}
        named = set()
        for context in self.store.get_contexts_by_type("pipeline_run"):
            for artifact in self.store.get_artifacts_by_context(context.id):
                if artifact.uri in found:
                    named.add(f"{Path(artifact.uri).parents[1].name}/{context.name.rpartition('-')[2]}")
        return named

    def _push(self, plan: RunPlan, made: str, graph: str, champion: Any, found: dict[str, str]) -> None:
        version = plan.push_version
        stage(local_path(made) / SERVING_FOLDER, self.config.serving_path, version)
        frozen = plan.base.statistics_uri if plan.base else found["statistics_uri"]
        self.ledger.record_model(
            ModelRecord(
                version=version,
                run_id=plan.run_id,
                span=plan.span.span,
                span_version=1,
                model_uri=made,
                model_digest="a" * 64,
                training_digest="b" * 64,
                transform_graph_uri=graph,
                transform_span=plan.span.span,
                statistics_uri=frozen,
                model_shape="{}",
                line_length=plan.line_length,
                base_version=plan.base.version if plan.base else None,
                pushed_at=self.clock.now(),
            )
        )
        self.ledger.promote(champion.version if champion else None, version, run_id=plan.run_id)
        serve_champion(self.config, self.ledger)

    def _checkpoint(self, plan: RunPlan) -> None:
        folder = self.config.checkpoints_path / plan.checkpoint_name
        folder.mkdir(parents=True)
        (folder / "epoch-0.weights.h5").write_bytes(b"0123456789")

    def _node(self, run_id: str, node: str, key: str, type_name: str) -> str:
        """Run a node: an execution, an artifact, its folder, and TFX's notes on it."""
        kind = self.store.put_execution_type(mlmd.ExecutionType(name=node))
        execution = mlmd.Execution(type_id=kind, last_known_state=mlmd.Execution.COMPLETE)
        (execution.id,) = self.store.put_executions([execution])
        uri = f"{self._artifacts}/{node}/{key}/{execution.id}"
        type_id = self.store.put_artifact_type(mlmd.ArtifactType(name=type_name))
        artifact = mlmd.Artifact(type_id=type_id, uri=uri, state=mlmd.Artifact.LIVE)
        event = mlmd.Event(type=mlmd.Event.OUTPUT, execution_id=execution.id)
        event.path.steps.add().key = key
        contexts = [
            mlmd.Context(type_id=self.store.put_context_type(mlmd.ContextType(name=kind)), name=name)
            for kind, name in (("pipeline", self.config.name), ("pipeline_run", run_id))
        ]
        self.store.put_execution(execution, [(artifact, event)], contexts, reuse_context_if_already_exist=True)
        (self.config.artifacts_path / node / ".system" / "executor_execution" / str(execution.id)).mkdir(parents=True)
        local_path(uri).mkdir(parents=True)
        (local_path(uri) / "data").write_bytes(b"0123456789")
        return uri


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the pipeline of `line` once; committing its cycles takes a second."""
    folder = Path(tmp_path_factory.mktemp("line"))
    made = PipelineOnDisk(folder / "root")
    for span, base in ((1, None), (2, 1), (3, None), (4, 3), (5, 3)):
        assert made.cycle(span, base=base) == span
    made.ledger.close()
    del made
    shutil.copytree(folder / "root", folder / "copy")
    return folder


@pytest.fixture
def line(template: Path) -> Iterator[PipelineOnDisk]:
    """Two lines of models: 1 cold, 2 warm from 1; then 3 cold, 4 and 5 warm from 3; 5 is the champion."""
    # In the same place every time, since ML Metadata knows it by its absolute path.
    shutil.rmtree(template / "root")
    shutil.copytree(template / "copy", template / "root")
    made = PipelineOnDisk(template / "root")
    made.clock.advance(5 * 3600)
    yield made
    made.ledger.close()


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[PipelineOnDisk]:
    """A pipeline without a cycle."""
    made = PipelineOnDisk(tmp_path / "root")
    yield made
    made.ledger.close()


@pytest.fixture
def remote_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineOnDisk]:
    """The same two lines of models, run by a cluster: their artifacts lie in an object store out of reach."""
    monkeypatch.setenv(LOCAL_ROOT_VARIABLE, str(tmp_path / "launcher"))
    made = PipelineOnDisk(tmp_path / "root", "minio://mlpipeline/v2/artifacts")
    for span, base in ((1, None), (2, 1), (3, None), (4, 3), (5, 3)):
        made.cycle(span, base=base)
    monkeypatch.delenv(LOCAL_ROOT_VARIABLE)
    yield made
    made.ledger.close()


@pytest.fixture
def invoke(line: PipelineOnDisk) -> Callable[..., Result]:
    """Run `perennial model` on the pipeline."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(perennial, ["model", *arguments, *line.words])

    return run
