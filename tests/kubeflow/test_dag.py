"""KubeflowDag against a cluster that goes on by one step with every look, and under the real controller."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from core.clock import ManualClock
from core.errors import (
    ConfigError,
    DataError,
    LeaseLostError,
    LedgerError,
    NodeError,
    PipelineError,
    StoppedError,
    UnavailableError,
)
from ingest.span_writer import write_manifest
from ledger.ledger import Ledger
from lineage.store import connection_config
from lineage.tasks import fail_execution
from pipeline.config import load_config
from pipeline.controller import Controller
from pipeline.cycle import Listeners, advance
from pipeline.daemon import Daemon
from pipeline.dags import make_dag
from pipeline.decision import Decision
from pipeline.kubeflow.cluster import ClusterRun, InvalidRequestError, TaskRun
from pipeline.kubeflow.dag import KubeflowDag
from pipeline.kubeflow.package import Package
from pipeline.plan import RunPlan, Skip
from pipeline.shape import INT_PARAMETERS
from pipeline.term import Seams
from pipeline.tfx_dag import TfxDag
from schemas.spans import Manifest, SpanRef, span_folder
from tools.fake_kfp import Step

SPAN = SpanRef(span=8, version=1, digest="d")
PLAN = RunPlan(
    run_id="run-1",
    trigger="next",
    span=SPAN,
    window=(SPAN,),
    initialisation="cold",
    champion=None,
    base=None,
    line_length=0,
    transform_graph_uri=None,
    analysis_window=(SPAN,),
    previous_statistics_uri=None,
    reference_statistics_uri=None,
    replay_uri=None,
    prequential_history=(),
    is_prequential=False,
    is_shadow=False,
    push_version=1,
    why=(),
)


class FakeCluster:
    """A cluster with one run.

    Attributes:
        steps: `(state, {node: state})` of the next looks; the last one stays.
        calls: What it was asked to do.
        refusal: Raised by whatever it is asked.
    """

    def __init__(self, *steps):
        self.steps = list(steps)
        self.calls = []
        self.values = {}
        self.refusal = None
        self.error = None
        self.is_known = True

    def submit(self, package, *, run_name, parameters):
        self._do("submit", run_name)
        self.values = parameters
        return "id-1"

    def find(self, run_name):
        self._do("find", run_name)
        return "id-1" if self.is_known else None

    def run(self, run_id):
        if self.refusal is not None:
            raise self.refusal
        state, nodes = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        tasks = tuple(TaskRun(node_id=node, state=reached) for node, reached in nodes.items())
        return ClusterRun(id=run_id, name="run-1", state=state, tasks=tasks, error=self.error)

    def retry(self, run_id):
        self._do("retry", run_id)

    def cancel(self, run_id):
        self._do("cancel", run_id)

    def url(self, run_id):
        return f"http://kfp/{run_id}"

    def _do(self, *call):
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)


class FakeObserver:
    """Remembers what it is told.

    Attributes:
        stops_after: How many checks go well before the worker is asked to stop.
    """

    def __init__(self, stops_after=1000):
        self.told = []
        self.stops_after = stops_after
        self.failure = None

    def check(self, node_id):
        self.stops_after -= 1
        if self.stops_after < 0:
            raise StoppedError(f"asked to stop at {node_id}")

    def node_started(self, node_id):
        self.told.append(f"{node_id} started")

    def node_finished(self, node_id):
        self.told.append(f"{node_id} finished")
        if self.failure is not None:
            raise self.failure

    def fenced(self):
        return nullcontext()


@pytest.fixture
def config(tmp_path):
    overrides = (f"root={tmp_path}", "runner=kubeflow", "window.cold_spans=1", "retries.backoff_seconds=0")
    return load_config(Path("conf/flights.yaml"), overrides)


@pytest.fixture
def make_dag_on(config, clock, tiny_package):
    def make(cluster, **options):
        return KubeflowDag(config, cluster, clock, compiled=lambda config, shape: tiny_package, **options)

    return make


@pytest.fixture
def record_failure(config):
    """Record an execution of a node as a task does, failed with a class and a text."""

    def record(node_id, error_class, text):
        store = MetadataStore(connection_config(config.metadata_url))
        types = {
            name: store.put_context_type(metadata_store_pb2.ContextType(name=name)) for name in ("pipeline_run", "node")
        }
        contexts = [
            metadata_store_pb2.Context(type_id=types["pipeline_run"], name="run-1"),
            metadata_store_pb2.Context(type_id=types["node"], name=f"flights.{node_id}"),
        ]
        type_id = store.put_execution_type(metadata_store_pb2.ExecutionType(name="any"))
        execution = metadata_store_pb2.Execution(type_id=type_id)
        execution_id, _, _ = store.put_execution(execution, [], contexts, reuse_context_if_already_exist=True)
        fail_execution(store, execution_id, error_class=error_class, text=text)

    return record


def test_every_node_is_told_of_once(make_dag_on, clock, config):
    cluster = FakeCluster(
        ("pending", {}),
        ("running", {"ExampleGen": "running"}),
        ("running", {"ExampleGen": "running"}),
        ("running", {"ExampleGen": "succeeded", "DriftGate": "succeeded", "Trainer": "pending"}),
        (
            "succeeded",
            {"ExampleGen": "succeeded", "DriftGate": "succeeded", "Trainer": "skipped", "record": "succeeded"},
        ),
    )
    observer = FakeObserver()
    make_dag_on(cluster).run(PLAN, observer)
    assert observer.told == ["ExampleGen started", "ExampleGen finished", "DriftGate started", "DriftGate finished"]
    assert cluster.calls == [("submit", "run-1")]
    assert cluster.values["run_id"] == "run-1"
    assert clock.monotonic() == 4 * config.kubeflow.poll_seconds


STATES = st.sampled_from(["pending", "running", "succeeded", "failed", "skipped"])


@settings(max_examples=30, deadline=None)
@given(looks=st.lists(st.dictionaries(st.sampled_from(["ExampleGen", "Trainer", "record"]), STATES), max_size=6))
def test_whatever_the_cluster_says_a_node_starts_once_and_then_finishes_once(make_config, looks):
    package = Package(name="flights", shape="cold", text="", digest="0")
    cluster = FakeCluster(*(("running", nodes) for nodes in looks), ("succeeded", {}))
    observer = FakeObserver()
    clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
    KubeflowDag(make_config(), cluster, clock, compiled=lambda config, shape: package).run(PLAN, observer)
    assert len(set(observer.told)) == len(observer.told)
    assert not any(said.startswith("record") for said in observer.told)
    for said in observer.told:
        if said.endswith("finished"):
            assert observer.told.index(said) > observer.told.index(said.replace("finished", "started"))


def test_who_submitted_is_told_where_to_look(make_dag_on):
    submitted = []
    dag = make_dag_on(FakeCluster(("succeeded", {})), submitted=lambda *facts: submitted.append(facts))
    dag.run(PLAN, FakeObserver())
    assert submitted == [("run-1", "http://kfp/id-1")]


def test_a_worker_that_stops_leaves_the_run_alone(make_dag_on):
    cluster = FakeCluster(("running", {"ExampleGen": "running"}))
    with pytest.raises(StoppedError, match="asked to stop at ExampleGen"):
        make_dag_on(cluster).run(PLAN, FakeObserver(stops_after=3))
    assert cluster.calls == [("submit", "run-1")]


def test_a_stop_before_the_submission_submits_nothing(make_dag_on):
    cluster = FakeCluster(("running", {}))
    with pytest.raises(StoppedError):
        make_dag_on(cluster).run(PLAN, FakeObserver(stops_after=0))
    assert cluster.calls == []


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_failed_before_is_tried_again_once(make_dag_on, state):
    nodes = {"ExampleGen": "succeeded", "Trainer": "failed"}
    cluster = FakeCluster(
        (state, nodes), ("running", {"ExampleGen": "succeeded", "Trainer": "running"}), ("failed", nodes)
    )
    observer = FakeObserver()
    with pytest.raises(NodeError):
        make_dag_on(cluster).run(PLAN, observer)
    assert cluster.calls == [("submit", "run-1"), ("retry", "id-1")]
    # What had finished then is no progress of this attempt: a span at which runs fail must come to its quarantine.
    assert observer.told == ["Trainer started"]


def test_a_failure_has_the_class_that_the_task_recorded(make_dag_on, record_failure):
    record_failure("ExampleGen", "UnavailableError", "an attempt before")
    record_failure("ExampleGen", "DataError", "Span 8 has no label. Add it.")
    cluster = FakeCluster(("running", {}), ("failed", {"ExampleGen": "failed"}))
    with pytest.raises(DataError, match=r"^Node 'ExampleGen' failed on span 8. Span 8 has no label. Add it.$"):
        make_dag_on(cluster).run(PLAN, FakeObserver())


def test_a_class_of_another_version_is_a_node_s(make_dag_on, record_failure):
    record_failure("Trainer", "FutureError", "Later.")
    cluster = FakeCluster(("running", {}), ("failed", {"Trainer": "failed"}))
    with pytest.raises(NodeError, match=r"^Node 'Trainer' failed on span 8. FutureError: Later.$"):
        make_dag_on(cluster).run(PLAN, FakeObserver())


def test_a_node_that_is_well_now_is_not_to_blame(make_dag_on, record_failure):
    record_failure("ExampleGen", "DataError", "an attempt before")
    cluster = FakeCluster(("running", {}), ("failed", {"ExampleGen": "succeeded", "Trainer": "failed"}))
    cluster.error = "OOMKilled"
    with pytest.raises(
        NodeError, match=r"Node 'Trainer' failed .*left no word of its own: OOMKilled\. Expected a pod"
    ) as e:
        make_dag_on(cluster).run(PLAN, FakeObserver())
    assert "perennial kubeflow status run-1" in str(e.value)
    assert "http://kfp/id-1" in str(e.value)


def test_a_record_that_failed_is_not_the_span_s_fault(make_dag_on):
    cluster = FakeCluster(("running", {}), ("failed", {"Pusher": "succeeded", "record": "failed"}))
    with pytest.raises(UnavailableError, match="The DAG is finished, but not recorded"):
        make_dag_on(cluster).run(PLAN, FakeObserver())


def test_a_cancelled_run_says_who_may_have_done_it(make_dag_on):
    cluster = FakeCluster(("running", {}), ("cancelled", {"Trainer": "failed"}))
    with pytest.raises(PipelineError, match=r"was cancelled in the cluster.*a person at http://kfp/id-1") as cancelled:
        make_dag_on(cluster).run(PLAN, FakeObserver())
    assert not cancelled.value.retryable
    assert not cancelled.value.blames_span


def test_a_refusal_leaves_the_run_open(make_dag_on):
    cluster = FakeCluster(("running", {}))
    cluster.refusal = ConfigError("The token has expired.")
    with pytest.raises(UnavailableError, match="The token has expired"):
        make_dag_on(cluster).run(PLAN, FakeObserver())


def test_a_package_that_the_cluster_will_never_take_is_a_failure(make_dag_on):
    cluster = FakeCluster(("running", {}))
    cluster.refusal = InvalidRequestError("The name is too long.")
    with pytest.raises(InvalidRequestError):
        make_dag_on(cluster).run(PLAN, FakeObserver())


@pytest.mark.parametrize(("failure", "is_raised"), [(LedgerError("moved"), False), (LeaseLostError("lost"), True)])
def test_the_run_s_own_recorder_may_be_quicker(make_dag_on, failure, is_raised):
    cluster = FakeCluster(("running", {"Gate": "succeeded"}), ("succeeded", {"Gate": "succeeded"}))
    observer = FakeObserver()
    observer.failure = failure
    with pytest.raises(LeaseLostError) if is_raised else nullcontext():
        make_dag_on(cluster).run(PLAN, observer)


@pytest.mark.parametrize("is_known", [True, False])
def test_giving_up_cancels_what_the_cluster_knows(make_dag_on, is_known):
    cluster = FakeCluster(("running", {}))
    cluster.is_known = is_known
    make_dag_on(cluster).give_up("run-1", nullcontext)
    assert cluster.calls == [("find", "run-1"), *([("cancel", "id-1")] if is_known else [])]


def test_runners_have_their_dags(config):
    assert isinstance(make_dag(config, "beam"), TfxDag)
    dag = make_dag(config.model_copy(update={"runner": "local"}), "kubeflow")
    assert isinstance(dag, KubeflowDag)
    assert dag.runner == "kubeflow"


class Flights:
    """The pipeline `flights` with one span, its runs in a fake Kubeflow Pipelines."""

    def __init__(self, config, ledger, clock, cluster, compiled):
        self.config, self.ledger = config, ledger
        self._clock, self._cluster, self._compiled = clock, cluster, compiled
        manifest = Manifest.model_validate(
            {"span": 8, "version": 1, "files": {"train": [
                {"path": "Split-train/a", "sha256": "8", "num_bytes": 1, "num_examples": 10}
            ]}}
        )  # fmt: skip
        folder = span_folder(config.spans_path, 8, 1)
        folder.mkdir(parents=True)
        write_manifest(folder, manifest)

    def controller(self, **listeners):
        """Return a controller as a new process would make it."""
        heard = Listeners(**listeners)
        return Controller(self.config, self.ledger, dag=self.dag(), clock=self._clock, listeners=heard)

    def dag(self):
        """Return a DAG on the fake, as a new process would make it."""
        return KubeflowDag(self.config, self._cluster, self._clock, compiled=self._compiled)

    def record(self, run):
        """Do what the last task of a run does."""
        (open_run,) = [record for record in self.ledger.runs() if record.run_id == run["display_name"]]
        plan = RunPlan.model_validate_json(open_run.plan)
        decision = Decision(
            pipeline="flights",
            run_id=plan.run_id,
            runner="kubeflow",
            started_at=self._clock.now(),
            outcome="rejected",
            reasons=("recorded inside",),
            plan=plan,
            seconds={"total": 1.0},
            digests={},
        )
        self.ledger.keep_decision(plan.run_id, decision.model_dump_json())
        advance(self.ledger, plan.span, "evaluated", run_id=plan.run_id)
        self.ledger.move_span(plan.span, "rejected", run_id=plan.run_id, reason="recorded inside")
        self.ledger.finish_run(plan.run_id, "rejected")
        run["state"] = "SUCCEEDED"


@pytest.fixture
def flights(config, clock, make_cluster, make_package) -> Iterator[Flights]:
    def compiled(config, shape):
        kinds = {name: "NUMBER_INTEGER" if name in INT_PARAMETERS else "STRING" for name in shape.parameters}
        parameters = {name: {"parameterType": kind} for name, kind in kinds.items()}
        text = make_package({"ExampleGen": {}, "Trainer": {}, "record": {}}, parameters=parameters)
        return Package(name="flights", shape=shape.name, text=text, digest="f" * 64)

    with Ledger.open(config.ledger_url, config.name, clock=clock) as ledger:
        yield Flights(config, ledger, clock, make_cluster(), compiled)


def test_a_run_that_records_itself_is_read_from_the_ledger(flights, fake_kfp):
    fake_kfp.state.execute = flights.record
    decision = flights.controller().run_next()
    assert (decision.outcome, decision.reasons) == ("rejected", ("recorded inside",))
    (run,) = fake_kfp.state.runs.by_id.values()
    assert run["display_name"] == decision.run_id


def test_what_is_recorded_is_done_though_its_pod_ended_badly(flights, fake_kfp):
    def execute(run):
        flights.record(run)
        run["state"] = "FAILED"

    fake_kfp.state.execute = execute
    assert flights.controller().run_next().outcome == "rejected"
    assert [run.outcome for run in flights.ledger.runs()] == ["rejected"]


@pytest.fixture
def left_run(flights, fake_kfp):
    """Return a run whose worker has left while it was at its first node."""
    fake_kfp.state.steps = [Step("RUNNING", {"ExampleGen": "RUNNING"})]
    stop = threading.Event()
    with pytest.raises(StoppedError):
        flights.controller(node=lambda node: stop.set(), stop=stop).run_next()
    (run,) = fake_kfp.state.runs.by_id.values()
    assert flights.ledger.open_run().run_id == run["display_name"]
    return run


def test_the_next_worker_follows_the_run_of_one_that_left(flights, fake_kfp, left_run):
    fake_kfp.state.steps = [Step("RUNNING", {"ExampleGen": "SUCCEEDED", "Trainer": "RUNNING"})]
    decision = flights.controller(node=lambda node: flights.record(left_run) if node == "Trainer" else None).run_next()
    assert (decision.run_id, decision.outcome) == (left_run["display_name"], "rejected")
    assert len(fake_kfp.state.runs.by_id) == 1


def test_a_run_that_nobody_follows_records_itself(flights, left_run):
    flights.record(left_run)
    assert flights.ledger.open_run() is None
    assert isinstance(flights.controller().run_next(), Skip)


def test_a_failed_run_goes_on_where_it_failed(flights, fake_kfp, clock):
    fake_kfp.state.steps = [
        Step("RUNNING"),
        Step("FAILED", {"ExampleGen": "SUCCEEDED", "Trainer": "FAILED"}, "OOMKilled"),
    ]
    with pytest.raises(NodeError, match="OOMKilled"):
        flights.controller().run_next()
    fake_kfp.state.steps = []
    fake_kfp.state.execute = flights.record
    clock.advance(3600)
    assert flights.controller().run_next().outcome == "rejected"
    assert len(fake_kfp.state.runs.by_id) == 1
    assert sum(":retry" in request for request in fake_kfp.requests) == 1


def test_a_run_that_succeeded_without_a_record_is_an_error(flights, fake_kfp):
    fake_kfp.state.steps = [Step("SUCCEEDED")]
    with pytest.raises(LedgerError, match=r"succeeded in the cluster, but this ledger has no decision on it"):
        flights.controller().run_next()


def test_the_daemon_runs_what_is_due_in_the_cluster(flights, fake_kfp, config, clock):
    fake_kfp.state.execute = flights.record

    def runner_of(ledger, listeners):
        return Controller(config, ledger, dag=flights.dag(), clock=clock, listeners=listeners)

    def open_ledger():
        return Ledger.open(config.ledger_url, config.name, clock=clock)

    seams = Seams(runner_of, open_ledger, clock, spawn=lambda work: work())
    Daemon(config, seams, grace_seconds=0).run_once()
    (run,) = fake_kfp.state.runs.by_id.values()
    assert flights.ledger.run(run["display_name"]).outcome == "rejected"
