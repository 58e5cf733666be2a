"""The one recurring run of a pipeline in Kubeflow Pipelines: what plans in the cluster, by the clock."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.kubeflow.kfp_cluster import KfpCluster
from pipeline.kubeflow.kfp_names import by_name
from schemas.base import Record

if TYPE_CHECKING:
    from pipeline.kubeflow.package import Package


class Schedule(Record):
    """A recurring run.

    Attributes:
        id: Its id.
        cron: Six fields, the seconds first.
        is_enabled: Whether it fires.
        package: Id of the version that it runs.
    """

    id: str
    cron: str
    is_enabled: bool
    package: str | None = None
    created_at: datetime | None = None


class KfpSchedules:
    """Makes, replaces and removes the recurring run of a pipeline.

    One is never enabled again: Kubeflow Pipelines would fire for every time that it missed meanwhile
    (https://github.com/kubeflow/pipelines/issues/8344). What changes is made anew, and then the old one is deleted: a
    crash in between leaves two, of which the ledger's lease lets one work, and the next call leaves one.

    Args:
        cluster: Where.
        name: Name of the recurring run.
    """

    def __init__(self, cluster: KfpCluster, name: str) -> None:
        self._cluster = cluster
        self._api = cluster.api
        self._name = name

    def replace(self, package: "Package", cron: str) -> Schedule:
        """Let the package run at the times of a cron expression of six fields, and nothing else of that name."""
        return self._api.again(self._replace, package, cron)

    def remove(self) -> int:
        """Delete the schedule; return how many there were."""
        return self._api.again(self._remove)

    def all(self) -> tuple[Schedule, ...]:
        """Return the schedules of that name: one, or none."""
        return self._api.again(self._all)

    def _replace(self, package: "Package", cron: str) -> Schedule:
        experiment_id = self._cluster.names.made_experiment()
        version = self._cluster.names.made_version(package)
        existing = self._all()
        wanted = (cron, version.pipeline_version_id, True)
        kept = next((s for s in existing if (s.cron, s.package, s.is_enabled) == wanted), None)
        kept = kept or self._create(experiment_id, version, cron)
        for schedule in existing:
            if schedule.id != kept.id:
                self._delete(schedule)
        return kept

    def _remove(self) -> int:
        existing = self._all()
        for schedule in existing:
            self._delete(schedule)
        return len(existing)

    def _all(self) -> tuple[Schedule, ...]:
        if (experiment_id := self._cluster.names.found_experiment()) is None:
            return ()
        service = self._api.recurring_runs
        answer = self._api.call(
            service.recurring_run_service_list_recurring_runs, experiment_id=experiment_id, filter=by_name(self._name)
        )
        return tuple(map(_to_schedule, answer.recurring_runs or ()))

    def _create(self, experiment_id: str, version: Any, cron: str) -> Schedule:
        from kfp_server_api import V2beta1CronSchedule, V2beta1RecurringRun, V2beta1RuntimeConfig, V2beta1Trigger

        options = self._api.options
        body = V2beta1RecurringRun(
            display_name=self._name,
            experiment_id=experiment_id,
            pipeline_version_reference=version,
            runtime_config=V2beta1RuntimeConfig(parameters={}, pipeline_root=options.pipeline_root or None),
            service_account=options.service_account or None,
            trigger=V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=cron)),
            mode="ENABLE",
            # What waits is found in the ledger by the next run: none is worth catching up, and two would race.
            max_concurrency="1",
            no_catchup=True,
        )
        return _to_schedule(self._api.call(self._api.recurring_runs.recurring_run_service_create_recurring_run, body))

    def _delete(self, schedule: Schedule) -> None:
        self._api.call(self._api.recurring_runs.recurring_run_service_delete_recurring_run, schedule.id)


def _to_schedule(recurring_run: Any) -> Schedule:
    trigger, reference = recurring_run.trigger, recurring_run.pipeline_version_reference
    return Schedule(
        id=recurring_run.recurring_run_id,
        cron=(trigger and trigger.cron_schedule and trigger.cron_schedule.cron) or "",
        is_enabled=recurring_run.status == "ENABLED",
        package=reference.pipeline_version_id if reference else None,
        created_at=recurring_run.created_at,
    )
