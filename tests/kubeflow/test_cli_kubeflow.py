"""The commands that talk to Kubeflow Pipelines, against the fake."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from cli.kubeflow_status import age
from cli.main import perennial
from cli.options import RUNNERS
from core.errors import ConfigError, DataError, TrainingError
from ingest.span_writer import write_manifest
from ledger.ledger import Ledger
from pipeline.config import RunnerName
from pipeline.cycle import advance
from pipeline.decision import Decision
from pipeline.kubeflow.kfp_api import NotFoundError
from pipeline.kubeflow.publication import NodeName, NodePublication
from pipeline.plan import RunPlan
from schemas.provenance import encode_spans
from schemas.spans import Manifest, SpanRef, span_folder
from tools.fake_kfp import Step

SPAN = SpanRef(span=8, version=1, digest="d")


@pytest.fixture(autouse=True)
def _root_logger_stays():
    # The commands make libraries quiet for a process of their own.
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture
def config(tmp_path, make_config):
    return make_config(f"root={tmp_path}")


@pytest.fixture
def kubeflow(fake_kfp, tmp_path):
    """Run a command of the group against the fake; its exceptions come through."""

    def run(*arguments):
        places = ["--set", f"root={tmp_path}", "--set", f"kubeflow.host={fake_kfp.url}"]
        quick = ["--set", "kubeflow.poll_seconds=0.01", "--set", "window.cold_spans=1"]
        command = ["kubeflow", arguments[0], *places, *quick, *arguments[1:]]
        return CliRunner().invoke(perennial, command, catch_exceptions=False)

    return run


@pytest.fixture
def add_span(config):
    """Let span 8 arrive."""
    file = {"path": "Split-train/a", "sha256": "8", "num_bytes": 1, "num_examples": 10}
    manifest = Manifest.model_validate({"span": 8, "version": 1, "files": {"train": [file]}})
    folder = span_folder(config.spans_path, 8, 1)
    folder.mkdir(parents=True)
    write_manifest(folder, manifest)


@pytest.fixture
def record(config):
    """Do what the last task of a run does."""

    def reject(run):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            ledger.adopt()
            plan = RunPlan.model_validate_json(ledger.run(run["display_name"]).plan)
            decision = Decision(
                pipeline="flights", run_id=plan.run_id, runner="kubeflow", started_at=datetime.now(UTC),
                outcome="rejected", reasons=("worse.",), plan=plan, seconds={"total": 1.0}, digests={},
            )  # fmt: skip
            ledger.keep_decision(plan.run_id, decision.model_dump_json())
            advance(ledger, plan.span, "evaluated", run_id=plan.run_id)
            ledger.move_span(plan.span, "rejected", run_id=plan.run_id, reason="worse.")
            ledger.finish_run(plan.run_id, "rejected")
        run["state"] = "SUCCEEDED"

    return reject


@pytest.fixture
def submitted(make_cluster, make_package, tiny_package, fake_kfp):
    """Return the name of a failed run of span 8."""
    text = make_package(
        {"ExampleGen": {}, "Trainer": {}, "record": {}},
        parameters={"run_id": {"parameterType": "STRING"}, "span": {"parameterType": "STRING"}},
    )
    package = tiny_package.model_copy(update={"text": text})
    values = {"run_id": "run-1", "span": encode_spans([SPAN])}
    cluster = make_cluster()
    run_id = cluster.submit(package, run_name="run-1", parameters=values)
    fake_kfp.state.steps = [Step("FAILED", {"ExampleGen": "SUCCEEDED", "Trainer": "FAILED"}, "OOMKilled")]
    cluster.run(run_id)
    return "run-1"


def test_runners_are_those_of_the_config():
    from typing import get_args

    assert get_args(RunnerName) == RUNNERS


@pytest.mark.usefixtures("add_span")
def test_submit_follows_the_run_to_its_end(kubeflow, fake_kfp, record):
    fake_kfp.state.execute = record
    done = kubeflow("submit", "--json")
    (decision,) = json.loads(done.stdout)
    assert decision["outcome"] == "rejected"
    (run,) = fake_kfp.state.runs.by_id.values()
    assert run["display_name"] == decision["run_id"]
    assert f"{fake_kfp.url}/#/runs/details/{run['run_id']}" in done.stderr
    assert "rejected in" in done.stderr
    # Every parameter of the real package was there, and of its type: the fake refuses anything else.
    assert run["runtime_config"]["parameters"]["run_id"] == decision["run_id"]


@pytest.mark.usefixtures("add_span")
def test_submit_may_leave_and_come_back(kubeflow, fake_kfp, record):
    left = kubeflow("submit", "--no-wait")
    assert left.exit_code == 0
    (run,) = fake_kfp.state.runs.by_id.values()
    assert f"Look with `perennial kubeflow status {run['display_name']}`" in left.stdout
    record(run)
    assert json.loads(kubeflow("status", run["display_name"], "--json").stdout)["state"] == "succeeded"
    assert "nothing new has arrived" in kubeflow("submit").stderr
    assert len(fake_kfp.state.runs.by_id) == 1


@pytest.mark.usefixtures("add_span")
def test_cancel_lets_the_span_wait_again(kubeflow, fake_kfp, config):
    (begun,) = json.loads(kubeflow("submit", "--no-wait", "--json").stdout)
    said = kubeflow("cancel", begun["run_id"]).stdout
    assert said == f"{begun['run_id']} is cancelled in the cluster. Its span waits again.\n"
    with Ledger.open(config.ledger_url, config.name) as ledger:
        assert ledger.run(begun["run_id"]).outcome == "abandoned"
        assert [record.state for record in ledger.spans()] == ["arrived"]
    assert "is over already: it was cancelled." in kubeflow("cancel", begun["run_id"]).stdout


@pytest.mark.usefixtures("add_span")
def test_a_wrong_token_is_said_before_anything_is_planned(kubeflow, fake_kfp, config):
    fake_kfp.token = "another"
    with pytest.raises(ConfigError, match="refuses this user"):
        kubeflow("submit")
    assert not Ledger.exists(config.ledger_url)


def test_submit_does_one_thing(kubeflow):
    with pytest.raises(ConfigError, match="Expected --span N or --next, not both"):
        kubeflow("submit", "--next", "--span", "8")


def test_status_lists_runs(kubeflow, submitted):
    row = kubeflow("status").stdout.splitlines()[-2].split()
    assert row[:3] == ["run-1", "8", "failed"]
    assert row[-1] == "cold-0123456789ab"
    (run,) = json.loads(kubeflow("status", "--json").stdout)
    assert (run["name"], run["span"], run["state"]) == ("run-1", 8, "failed")


def test_status_of_a_failed_run_says_how_to_repeat_it(kubeflow, submitted, fake_kfp, tmp_path):
    path = tmp_path / "package.yaml"
    said = kubeflow("status", submitted, "--package", str(path)).stdout
    assert "failed     Trainer" in said
    assert "OOMKilled" in said
    assert f"{fake_kfp.url}/#/runs/details/" in said
    assert "perennial kubeflow run-local package.yaml --param-file values.json" in said
    run = json.loads(kubeflow("status", submitted, "--json").stdout)
    assert [task["node_id"] for task in run["tasks"]] == ["ExampleGen", "Trainer"]
    # What the two documents hold is all that is needed here.
    values = tmp_path / "values.json"
    values.write_text(json.dumps(run["parameters"]))
    repeated = ["kubeflow", "run-local", str(path), "--param-file", str(values), "--root", str(tmp_path / "again")]
    assert CliRunner().invoke(perennial, repeated, catch_exceptions=False).exit_code == 0


def test_status_shows_what_a_failed_task_said_of_itself(kubeflow, submitted, config):
    """The cluster knows only how its pod ended."""
    node = NodeName(pipeline="flights", run_id="run-1", node_id="Trainer", node_type="components.trainer.Trainer")
    NodePublication(config.metadata_url, node).fail(TrainingError("The loss is not finite."))
    said = kubeflow("status", submitted).stdout
    assert "failed     Trainer  The loss is not finite." in said
    (trainer,) = (task for task in json.loads(kubeflow("status", submitted, "--json").stdout)["tasks"][1:])
    assert trainer["error"] == "The loss is not finite."


def test_status_needs_a_run_that_is_there(kubeflow, submitted, fake_kfp, tmp_path):
    with pytest.raises(NotFoundError, match="knows no run 'run-9'"):
        kubeflow("status", "run-9")
    with pytest.raises(ConfigError, match="Expected a RUN beside --package"):
        kubeflow("status", "--package", str(tmp_path / "package.yaml"))
    fake_kfp.state.versions.by_id.clear()
    with pytest.raises(DataError, match="The package of run run-1 is gone"):
        kubeflow("status", submitted, "--package", str(tmp_path / "package.yaml"))


def test_a_schedule_is_made_shown_replaced_and_removed(kubeflow, fake_kfp):
    assert "There is no schedule" in kubeflow("schedule").stdout
    said = kubeflow("schedule", "--cron", "0 3 * * 1").stdout
    assert said.startswith("0 3 * * 1: next at ")
    assert "reads it in UTC" in said
    (version,) = fake_kfp.state.versions.by_id.values()
    assert version["display_name"].startswith("controller-")
    assert kubeflow("schedule").stdout == said
    (schedule,) = json.loads(kubeflow("schedule", "--cron", "30 4 * * *", "--json").stdout)
    assert schedule["cron"] == "0 30 4 * * *"
    fake_kfp.state.recurring_runs.get(schedule["id"])["status"] = "DISABLED"
    assert "30 4 * * *: disabled. Make it anew" in kubeflow("schedule").stdout
    assert kubeflow("schedule", "--remove").stdout == "Removed 1 schedule(s).\n"
    assert not fake_kfp.state.recurring_runs.by_id


def test_a_schedule_cannot_be_made_and_removed(kubeflow):
    with pytest.raises(ConfigError, match="Expected --cron or --remove"):
        kubeflow("schedule", "--cron", "0 3 * * 1", "--remove")


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (61, "1 min"), (7_300, "2 h"), (200_000, "2 d")])
def test_age_has_one_unit(seconds, words):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=seconds), now) == words
