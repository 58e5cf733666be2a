"""A small DAG on both runners: what is recorded, what a second attempt does, and what becomes of a failure."""

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.errors import LeaseLostError, NodeError, StoppedError
from lineage.runs import node_runs
from lineage.store import connection_config, opened_store

RUN = "run-1"
NODES = """
from pathlib import Path
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, Model

@component
def Source(examples: OutputArtifact[Examples], flag: Parameter[int]):
    examples.set_int_custom_property("flag", flag)

@component
def Step(examples: InputArtifact[Examples], model: OutputArtifact[Model], ill: Parameter[str], name: Parameter[str]):
    Path(model.uri, "half").write_text("written")
    if Path(ill, name).exists():
        raise ValueError(f"{name} is ill")
"""


@dataclass
class Observer:
    """Notes what it is told; raises what it is given, and where two threads are in it at once."""

    raises: dict[str, Exception] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    num_fences: int = 0
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def check(self, node_id: str) -> None:
        raise AssertionError(f"nobody asks about {node_id}")

    def node_started(self, node_id: str) -> None:
        with self._entered():
            if node_id in self.raises:
                raise self.raises[node_id]
            self.started.append(node_id)

    def node_finished(self, node_id: str) -> None:
        with self._entered():
            self.finished.append(node_id)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        with self._entered():
            self.num_fences += 1
            yield

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if not self._alone.acquire(blocking=False):
            raise AssertionError("two threads at once")
        try:
            yield
        finally:
            self._alone.release()


@dataclass
class SmallDag:
    """`Source`, behind it `left` and `right`, and `last` behind a condition on the source's flag."""

    root: Path
    module: Any
    url: str
    flag: int = 1

    def make_ill(self, *names: str) -> None:
        for path in self._ill.iterdir():
            path.unlink()
        for name in names:
            (self._ill / name).touch()

    def run(self, observer: Observer, *, runner: Any = "local", parallel_nodes: int = 2) -> None:
        from pipeline.runners import run_pipeline

        run_pipeline(self._pipeline(), RUN, span=7, runner=runner, observer=observer, parallel_nodes=parallel_nodes)

    def states(self) -> dict[str, str]:
        with opened_store(self.url) as store:
            return {node_id: node.state for node_id, node in node_runs(store, RUN).items()}

    def links(self) -> set[tuple[Any, ...]]:
        """Return all that is recorded but numbers and times: who read and wrote what, in which contexts."""
        with opened_store(self.url) as store:
            names = {a.id: (a.type, Path(a.uri).parent.relative_to(self.root)) for a in store.get_artifacts()}
            executions = {e.id: e for e in store.get_executions()}
            found: set[tuple[Any, ...]] = set()
            for event in store.get_events_by_execution_ids(list(executions)):
                execution = executions[event.execution_id]
                kinds = {c.name for c in store.get_contexts_by_execution(execution.id) if c.type != "execution_cache"}
                properties = sorted((key, str(value)) for key, value in execution.custom_properties.items())
                path = tuple(str(step) for step in event.path.steps)
                found.add(
                    (
                        execution.type,
                        execution.last_known_state,
                        str(properties).replace(str(self.root), ""),
                        frozenset(kinds),
                        event.type,
                        path,
                        names[event.artifact_id],
                    )
                )
            return found

    @property
    def _ill(self) -> Path:
        folder = self.root / "ill"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _pipeline(self) -> Any:
        from tfx.dsl.experimental.conditionals.conditional import Cond
        from tfx.orchestration.pipeline import Pipeline

        source = self.module.Source(flag=self.flag)
        examples = source.outputs["examples"]
        steps = [self._step(name, examples) for name in ("left", "right")]
        with Cond(examples.future()[0].custom_property("flag") == 1):
            last = self._step("last", examples)
        return Pipeline(
            pipeline_name="small",
            pipeline_root=str(self.root / "artifacts"),
            components=[source, *steps, last],
            enable_cache=False,
            metadata_connection_config=connection_config(self.url),
        )

    def _step(self, name: str, examples: Any) -> Any:
        return self.module.Step(examples=examples, ill=str(self._ill), name=name).with_id(name)


@pytest.fixture
def make_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SmallDag]:
    # TFX imports executors by their path.
    (tmp_path / "small_dag_nodes.py").write_text(NODES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("small_dag_nodes")

    def make(name: str = "dag", **changes: Any) -> SmallDag:
        return SmallDag(tmp_path / name, module, f"sqlite:///{tmp_path / name}/metadata.sqlite", **changes)

    return make


@pytest.fixture
def dag(make_dag: Callable[..., SmallDag]) -> SmallDag:
    return make_dag()


def test_side_by_side_one_by_one_and_on_beam_the_same_is_recorded(make_dag: Callable[..., SmallDag]) -> None:
    recorded = []
    for name, runner, parallel_nodes in (("both", "local", 2), ("one", "local", 1), ("beam", "beam", 2)):
        made, observer = make_dag(name), Observer()
        made.run(observer, runner=runner, parallel_nodes=parallel_nodes)
        assert set(made.states().values()) == {"COMPLETE"}
        assert sorted(observer.finished) == sorted(observer.started) == ["Source", "last", "left", "right"]
        assert observer.num_fences == 4
        recorded.append(made.links())
    assert recorded[0] == recorded[1] == recorded[2]


def test_a_node_that_its_condition_skips_leaves_nothing(make_dag: Callable[..., SmallDag]) -> None:
    made, observer = make_dag(flag=0), Observer()
    made.run(observer)
    assert "last" not in made.states()
    assert "last" not in observer.started


def test_after_a_failure_only_the_rest_is_done(dag: SmallDag) -> None:
    dag.make_ill("left")
    first, again = Observer(), Observer()
    with pytest.raises(NodeError, match=r"Node 'left' failed on span 7\. ValueError: left is ill"):
        dag.run(first)
    assert dag.states()["left"] == "FAILED"
    dag.make_ill()
    dag.run(again)
    assert sorted(first.finished + again.started) == ["Source", "last", "left", "right"]
    assert set(dag.states().values()) == {"COMPLETE"}
    # Each attempt has a folder of its own, and what the failed one wrote is gone.
    assert len(list((dag.root / "artifacts/left/model").iterdir())) == 1


def test_what_a_killed_worker_left_running_is_ended(dag: SmallDag) -> None:
    observer = Observer()
    dag.make_ill("left")
    with pytest.raises(NodeError):
        dag.run(observer, parallel_nodes=1)
    with opened_store(dag.url, writable=True) as store:
        (execution,) = [e for e in store.get_executions() if e.last_known_state == e.FAILED]
        execution.last_known_state = execution.RUNNING
        store.put_executions([execution])
    dag.make_ill()
    dag.run(Observer())
    with opened_store(dag.url) as store:
        states = [e.last_known_state for e in store.get_executions()]
    assert states.count(execution.FAILED) == 1
    assert execution.RUNNING not in states


@pytest.mark.parametrize("runner", ["local", "beam"])
@pytest.mark.parametrize("error", [StoppedError("asked to stop"), LeaseLostError("taken over")], ids=["stop", "lease"])
def test_a_worker_that_must_not_go_on_says_so_itself(dag: SmallDag, error: Exception, runner: str) -> None:
    observer = Observer(raises={"Source": error})
    with pytest.raises(type(error), match=f"^{error}$"):
        dag.run(observer, runner=runner)
    assert observer.finished == []
    assert dag.states() == {"Source": "FAILED"}
