"""KfpCluster by the official client against a server that refuses whatever that client's models do not have."""

import logging
import socket

import pytest

from core.errors import ConfigError, UnavailableError
from pipeline.kubeflow.cluster import TaskRun
from pipeline.kubeflow.kfp_api import MAX_ATTEMPTS, NotFoundError, RefusedError
from pipeline.kubeflow.kfp_cluster import CANCEL_SECONDS
from tools.fake_kfp import Fault, Step

VALUES = {"run_id": "run-1", "push_version": 3}


@pytest.fixture
def submit(make_cluster, tiny_package):
    """Submit the tiny package and return the cluster and the id of its run."""

    def make(run_name="run-1", **options):
        cluster = make_cluster(**options)
        return cluster, cluster.submit(tiny_package, run_name=run_name, parameters={**VALUES, "run_id": run_name})

    return make


def test_a_run_has_name_values_place_and_account(submit, fake_kfp, tiny_package):
    _, run_id = submit(pipeline_root="s3://bucket/root", service_account="runner", experiment="nightly")
    (run,) = fake_kfp.state.runs.by_id.values()
    assert run["run_id"] == run_id
    assert run["display_name"] == "run-1"
    assert run["runtime_config"] == {"parameters": VALUES, "pipeline_root": "s3://bucket/root"}
    assert run["service_account"] == "runner"
    (version,) = fake_kfp.state.versions.by_id.values()
    assert version["display_name"] == tiny_package.version_name == "cold-0123456789ab"
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert [made["display_name"] for made in fake_kfp.state.experiments.by_id.values()] == ["nightly"]
    assert [made["display_name"] for made in fake_kfp.state.pipelines.by_id.values()] == ["flights"]


def test_what_is_there_is_found_again(submit, fake_kfp):
    first, run_id = submit()
    second, same_id = submit()
    assert same_id == run_id == second.find("run-1") == first.find("run-1")
    submit("run-2")
    assert len(fake_kfp.state.runs.by_id) == 2
    assert len(fake_kfp.state.versions.by_id) == 1
    assert len(fake_kfp.state.experiments.by_id) == 1


def test_nothing_is_found_and_made_by_asking(make_cluster, fake_kfp):
    assert make_cluster().find("run-1") is None
    assert not fake_kfp.state.experiments.by_id


@pytest.mark.parametrize(
    "path",
    ["POST /apis/v2beta1/experiments", "POST /apis/v2beta1/pipelines", "upload_version", "POST /apis/v2beta1/runs"],
)
@pytest.mark.parametrize("status", [503, None], ids=["error", "cut"])
def test_a_lost_answer_makes_nothing_twice(submit, fake_kfp, path, status):
    fake_kfp.faults = [Fault(path, status=status, is_done=True)]
    submit()
    state = fake_kfp.state
    assert [len(records.by_id) for records in (state.experiments, state.pipelines, state.versions, state.runs)] == [
        1
    ] * 4


def test_a_half_uploaded_version_is_not_run(submit, fake_kfp):
    submit("run-1")
    fake_kfp.state.half_uploaded = set(fake_kfp.state.versions.by_id)
    with pytest.raises(UnavailableError, match="Already exist error: cold-0123456789ab"):
        submit("run-2")
    assert len(fake_kfp.state.runs.by_id) == 1


def test_the_oldest_of_two_runs_of_a_name_is_the_run(submit, fake_kfp):
    cluster, run_id = submit()
    fake_kfp.state.start_run({**fake_kfp.state.runs.get(run_id)})
    assert len(fake_kfp.state.runs.by_id) == 2
    assert cluster.find("run-1") == run_id


def test_tasks_are_nodes_in_the_order_of_their_beginning(submit, fake_kfp):
    cluster, run_id = submit()
    begun = {"champion": "SUCCEEDED", "ExampleGen": "SUCCEEDED", "Trainer": "RUNNING", "record": "SKIPPED"}
    fake_kfp.state.steps = [Step("RUNNING", begun)]
    run = cluster.run(run_id)
    assert (run.name, run.state, run.package) == ("run-1", "running", "cold-0123456789ab")
    assert run.parameters == VALUES
    assert run.tasks == (
        TaskRun(node_id="ExampleGen", state="succeeded"),
        TaskRun(node_id="Trainer", state="running"),
        TaskRun(node_id="record", state="skipped"),
    )


def test_tasks_of_a_deleted_version_are_told_by_their_names(submit, fake_kfp, make_cluster):
    _, run_id = submit()
    fake_kfp.state.versions.by_id.clear()
    fake_kfp.state.steps = [Step("RUNNING", {"ExampleGen": "RUNNING"})]
    run = make_cluster().run(run_id)
    assert [task.node_id for task in run.tasks] == ["ExampleGen"]
    assert run.package is None
    assert make_cluster().package_text(run_id) is None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("PENDING", "pending"),
        ("PAUSED", "running"),
        ("SUCCEEDED", "succeeded"),
        ("FAILED", "failed"),
        ("CANCELED", "cancelled"),
    ],
)
def test_states_are_ours(submit, fake_kfp, theirs, ours):
    cluster, run_id = submit()
    fake_kfp.state.steps = [Step(theirs, error="no room" if theirs == "FAILED" else None)]
    run = cluster.run(run_id)
    assert run.state == ours
    assert run.error == ("no room" if theirs == "FAILED" else None)


def test_retry_starts_a_failed_run_and_no_other(submit, fake_kfp):
    cluster, run_id = submit()
    fake_kfp.state.steps = [Step("FAILED", {"ExampleGen": "SUCCEEDED", "Trainer": "FAILED"})]
    cluster.run(run_id)
    fake_kfp.faults = [Fault(":retry", is_done=True)]
    cluster.retry(run_id)
    run = cluster.run(run_id)
    assert run.state == "running"
    assert [task.node_id for task in run.tasks] == ["ExampleGen"]
    assert sum(":retry" in request for request in fake_kfp.requests) == 1


def test_cancel_waits_until_the_run_is_over(submit, fake_kfp):
    cluster, run_id = submit()
    cluster.cancel(run_id)
    # Argo has no cancelled workflow; the history says why it failed.
    assert fake_kfp.state.runs.get(run_id)["state"] == "FAILED"
    assert cluster.run(run_id).state == "cancelled"
    cluster.cancel(run_id)
    assert sum(":terminate" in request for request in fake_kfp.requests) == 1


def test_a_run_that_failed_after_it_was_cancelled_and_retried_failed(submit, fake_kfp):
    cluster, run_id = submit()
    cluster.cancel(run_id)
    cluster.retry(run_id)
    fake_kfp.state.steps = [Step("FAILED")]
    assert cluster.run(run_id).state == "failed"


def test_cancel_does_not_wait_for_ever(submit, fake_kfp, clock):
    cluster, run_id = submit()
    fake_kfp.state.terminate = lambda run_id: None
    begun = clock.monotonic()
    with pytest.raises(UnavailableError, match=r"still runs. Expected its pods to end. Look at http"):
        cluster.cancel(run_id)
    assert clock.monotonic() - begun == CANCEL_SECONDS


def test_runs_are_the_newest(submit, fake_kfp):
    for number in range(3):
        cluster, _ = submit(f"run-{number}")
    assert [run.name for run in cluster.runs(2)] == ["run-2", "run-1"]


def test_a_run_has_two_names(submit):
    cluster, run_id = submit()
    assert cluster.named("run-1") == cluster.named(run_id)
    with pytest.raises(NotFoundError, match=r"knows no run 'run-9'. Expected one of experiment 'flights'"):
        cluster.named("run-9")


def test_the_page_is_the_run_s(submit, fake_kfp, monkeypatch):
    cluster, run_id = submit()
    assert cluster.url(run_id) == f"{fake_kfp.url}/#/runs/details/{run_id}"
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kfp.example/")
    assert cluster.url(run_id) == f"https://kfp.example/#/runs/details/{run_id}"


def test_runs_need_their_experiment(make_cluster):
    with pytest.raises(ConfigError, match=r"has no experiment 'nightly'. Expected the one that the first run makes"):
        make_cluster(experiment="nightly").runs(5)


def test_a_wrong_value_is_refused_in_the_server_s_words(make_cluster, tiny_package):
    with pytest.raises(ConfigError, match="parameter push_version has the wrong type: 'three'"):
        make_cluster().submit(tiny_package, run_name="run-1", parameters={**VALUES, "push_version": "three"})


def test_namespaces_matter_where_there_are_users(submit, fake_kfp):
    fake_kfp.namespaces = {"team"}
    cluster, _ = submit(namespace="team")
    assert cluster.find("run-1") is not None
    with pytest.raises(RefusedError, match=r"User is not authorized in namespace other.*check `kubeflow.namespace`"):
        submit(namespace="other")


def test_a_token_gets_in_and_is_not_written_anywhere(make_cluster, fake_kfp, monkeypatch, caplog):
    fake_kfp.token = "very-secret"
    monkeypatch.setenv("KFP_TOKEN", "very-secret\n")
    with caplog.at_level(logging.DEBUG):
        make_cluster(token="env:KFP_TOKEN").check()
        monkeypatch.setenv("KFP_TOKEN", "expired-secret")
        with pytest.raises(RefusedError, match=r"HTTP 401.*Renew the token in env:KFP_TOKEN") as refused:
            make_cluster(token="env:KFP_TOKEN").check()
    assert "secret" not in caplog.text + str(refused.value)
    monkeypatch.delenv("KFP_TOKEN")
    with pytest.raises(ConfigError, match="Expected it in the environment variable 'KFP_TOKEN'"):
        make_cluster(token="env:KFP_TOKEN").check()


def test_a_pod_s_own_token_is_read_again(make_cluster, fake_kfp, monkeypatch, tmp_path):
    path = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(path))
    cluster = make_cluster()
    for token in ("first", "second"):
        path.write_text(token)
        fake_kfp.token = token
        cluster.check()


def test_no_address_is_said_before_anything_is_asked(make_cluster, monkeypatch):
    for name in ("KF_PIPELINES_ENDPOINT", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"Nothing says where Kubeflow Pipelines is. Expected `kubeflow.host`"):
        make_cluster(host="").check()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert make_cluster(host="").api.host == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "kfp.example/")
    assert make_cluster(host="").api.host == "https://kfp.example"


def test_nobody_at_the_address(make_cluster, clock):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        UnavailableError, match=f"Kubeflow Pipelines at {host} does not answer: .*refused.*kubeflow.host"
    ):
        make_cluster(host=host).check()
    assert clock.monotonic() == 1 + 2 + 4 + 8


def test_an_old_api(make_cluster, fake_kfp):
    fake_kfp.is_old = True
    with pytest.raises(ConfigError, match=r"does not know the API v2beta1. Expected Kubeflow Pipelines 2.0 or newer"):
        make_cluster().check()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (
            Fault("/", status=200, body="<html>Log in</html>"),
            ConfigError,
            "is not the API of Kubeflow Pipelines.*login page",
        ),
        (Fault("/", status=302, body=""), RefusedError, "HTTP 302"),
        (Fault("/", status=400, body='{"error": "no such field"}'), ConfigError, "HTTP 400.*: no such field. Expected"),
    ],
    ids=["html", "redirect", "refused"],
)
def test_what_waiting_does_not_cure_is_said_at_once(make_cluster, fake_kfp, clock, fault, kind, words):
    fake_kfp.faults = [fault]
    with pytest.raises(kind, match=words):
        make_cluster().check()
    assert clock.monotonic() == 0


@pytest.mark.parametrize("status", [429, 500, 503, None])
def test_what_passes_is_waited_for(make_cluster, fake_kfp, status):
    fake_kfp.faults = [Fault("/", status=status, times=MAX_ATTEMPTS - 1)]
    make_cluster().check()
    fake_kfp.faults = [Fault("/", status=status, times=MAX_ATTEMPTS)]
    with pytest.raises(UnavailableError, match="does not answer" if status is None else f"HTTP {status}.*no healthy"):
        make_cluster().check()


def test_the_package_of_a_run_can_be_had(submit, tiny_package):
    cluster, run_id = submit()
    assert cluster.package_text(run_id) == tiny_package.text
