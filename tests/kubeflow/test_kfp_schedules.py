import pytest

from core.errors import ConfigError, UnavailableError
from pipeline.kubeflow.cron import six_fields
from pipeline.kubeflow.kfp_schedules import KfpSchedules
from tools.fake_kfp import Fault

MONDAYS = six_fields("0 3 * * 1")


@pytest.fixture
def package(tiny_package, make_package):
    """Return a package without parameters, as the controller's."""
    return tiny_package.model_copy(update={"shape": "controller", "text": make_package({"controller": {}})})


@pytest.fixture
def schedules(make_cluster):
    return KfpSchedules(make_cluster(service_account="runner"), "flights-next")


def test_a_schedule_neither_overlaps_nor_catches_up(schedules, package, fake_kfp):
    made = schedules.replace(package, MONDAYS)
    (recurring,) = fake_kfp.state.recurring_runs.by_id.values()
    assert recurring["max_concurrency"] == "1"
    assert recurring["no_catchup"] is True
    assert recurring["mode"] == "ENABLE"
    assert recurring["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert recurring["service_account"] == "runner"
    assert schedules.all() == (made,)
    assert made.is_enabled


def test_the_same_schedule_stays(schedules, package, fake_kfp):
    assert schedules.replace(package, MONDAYS) == schedules.replace(package, MONDAYS)
    assert len(fake_kfp.state.recurring_runs.by_id) == 1


def test_a_lost_answer_leaves_one_schedule(schedules, package, fake_kfp):
    fake_kfp.faults = [Fault("POST /apis/v2beta1/recurringruns", is_done=True)]
    schedules.replace(package, MONDAYS)
    assert len(fake_kfp.state.recurring_runs.by_id) == 1


@pytest.mark.parametrize("what", ["time", "package", "disabled"])
def test_another_schedule_takes_the_place_of_the_old_one(schedules, package, fake_kfp, what):
    old = schedules.replace(package, MONDAYS)
    if what == "disabled":
        fake_kfp.state.recurring_runs.get(old.id)["status"] = "DISABLED"
    changed = package.model_copy(update={"digest": "f" * 64}) if what == "package" else package
    new = schedules.replace(changed, "0 30 4 * * *" if what == "time" else MONDAYS)
    assert new.id != old.id
    assert schedules.all() == (new,)
    # It would fire for every time that it missed.
    assert not any(":enable" in request for request in fake_kfp.requests)


def test_a_crash_between_making_and_deleting_is_made_good(schedules, package, fake_kfp):
    schedules.replace(package, MONDAYS)
    fake_kfp.faults = [Fault("DELETE", times=99)]
    with pytest.raises(UnavailableError):
        schedules.replace(package, "0 30 4 * * *")
    assert len(schedules.all()) == 2
    fake_kfp.faults = []
    assert schedules.all() != (schedules.replace(package, "0 30 4 * * *"),)
    assert len(schedules.all()) == 1


def test_removing_twice_removes_once(schedules, package):
    assert schedules.remove() == 0
    schedules.replace(package, MONDAYS)
    assert [schedules.remove(), schedules.remove()] == [1, 0]


@pytest.mark.parametrize("expression", ["*/15 * * * *", "0 3 * * 1-5", "0 3 1 JAN,JUL MON-WED"])
def test_five_fields_become_six(expression):
    assert six_fields(expression) == f"0 {expression}"


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 0 3 * * 1", "6 fields"),
        ("@daily", "1 fields"),
        ("61 * * * *", "Bad minute"),
        ("0 3 30 2 *", "Bad day-of-month"),
        ("0 3 L * *", "Kubeflow Pipelines does not read 'L'"),
        ("0 3 * * 1#2", "Kubeflow Pipelines does not read '1#2'"),
        ("0 3 * * 7", "calls Sunday 0 or SUN, not 7"),
    ],
)
def test_what_kubeflow_cannot_read_is_refused(expression, why):
    with pytest.raises(ConfigError, match=f"{why}. Expected five fields"):
        six_fields(expression)
