"""Kubeflow Pipelines as a cluster that runs packages. Every method may be repeated, also after a lost answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from core.clock import Clock, SystemClock
from core.errors import UnavailableError
from pipeline.kubeflow.cluster import OVER, ClusterRun
from pipeline.kubeflow.kfp_api import KfpApi, NotFoundError
from pipeline.kubeflow.kfp_names import KfpNames, by_name
from pipeline.kubeflow.kfp_runs import to_run
from pipeline.kubeflow.options import KubeflowOptions

if TYPE_CHECKING:
    from pipeline.kubeflow.package import Package

# Kubernetes gives a pod 30 s to end, and the API server hears of it some seconds later.
CANCEL_SECONDS = 120.0
CANCEL_POLL_SECONDS = 2.0


class KfpCluster:
    """Runs packages by the API of Kubeflow Pipelines.

    Args:
        options: Where it is, and what runs get.
        pipeline: Name of the pipeline whose versions the packages are.
        clock: Where the time comes from.
    """

    def __init__(self, options: KubeflowOptions, pipeline: str, *, clock: Clock | None = None) -> None:
        self.api = KfpApi(options, clock or SystemClock())
        self.names = KfpNames(self.api, pipeline)
        self._options = options
        self._versions: dict[str, Any] = {}

    def check(self) -> None:
        """Ask the API whether it is there, new enough, and lets this user in.

        Raises:
            ConfigError: it is not what was expected, or refuses.
            UnavailableError: it does not answer.
        """
        self.api.again(self.names.found_experiment)

    def submit(self, package: "Package", *, run_name: str, parameters: Mapping[str, str | int]) -> str:
        """Start the run of that name, or find it where it was started before; return the cluster's id of it."""

        def found_or_started() -> str:
            # All of it again where an answer was lost: what was made before is found then.
            return self._find(run_name) or self._start(package, run_name, parameters)

        return self.api.again(found_or_started)

    def find(self, run_name: str) -> str | None:
        """Return the cluster's id of the run of that name, or None where none was started."""
        return self.api.again(self._find, run_name)

    def run(self, run_id: str) -> ClusterRun:
        """Return a run as it stands.

        Raises:
            NotFoundError: there is no such run.
        """
        return self.api.again(self._run, run_id)

    def runs(self, limit: int) -> tuple[ClusterRun, ...]:
        """Return the newest runs of the experiment, without their tasks.

        Raises:
            ConfigError: there is no such experiment.
        """
        return self.api.again(self._runs, limit)

    def named(self, name_or_id: str) -> ClusterRun:
        """Return the run of a plan's run id, or of the cluster's own id.

        Raises:
            NotFoundError: there is none.
        """
        return self.run(self.find(name_or_id) or name_or_id)

    def package_text(self, run_id: str) -> str | None:
        """Return the package that a run runs, as YAML; None where its version was deleted."""
        return self.api.again(self._package_text, run_id)

    def retry(self, run_id: str) -> None:
        """Start the failed tasks of a failed or cancelled run again; what succeeded stays."""

        def retried_unless_running() -> None:
            if self._run(run_id).state in ("failed", "cancelled"):
                self.api.call(self.api.runs.run_service_retry_run, run_id)

        self.api.again(retried_unless_running)

    def cancel(self, run_id: str) -> None:
        """Stop a run and return when none of its tasks goes on; one that is over is left alone.

        Raises:
            UnavailableError: it is not over in time.
        """

        def terminated() -> bool:
            if self._run(run_id).state in OVER:
                return False
            self.api.call(self.api.runs.run_service_terminate_run, run_id)
            return True

        if self.api.again(terminated):
            self._wait_until_over(run_id)

    def url(self, run_id: str) -> str:
        """Return the run's web page."""
        return f"{self.api.page}/#/runs/details/{run_id}"

    def _wait_until_over(self, run_id: str) -> None:
        deadline = self.api.clock.monotonic() + CANCEL_SECONDS
        while self.run(run_id).state not in OVER:
            if self.api.clock.monotonic() >= deadline:
                raise UnavailableError(
                    f"Run {run_id} was told to stop {CANCEL_SECONDS:.0f} s ago, and still runs. Expected its pods to "
                    f"end. Look at {self.url(run_id)}, and delete pods that hang."
                )
            self.api.wait(CANCEL_POLL_SECONDS)

    def _find(self, run_name: str) -> str | None:
        if (experiment_id := self.names.found_experiment()) is None:
            return None
        answer = self.api.call(
            self.api.runs.run_service_list_runs,
            experiment_id=experiment_id,
            filter=by_name(run_name),
            # Names are not unique there: whoever asks takes the same one.
            sort_by="created_at asc",
        )
        return next((str(run.run_id) for run in answer.runs or ()), None)

    def _start(self, package: "Package", run_name: str, parameters: Mapping[str, str | int]) -> str:
        from kfp_server_api import V2beta1Run, V2beta1RuntimeConfig

        config = V2beta1RuntimeConfig(parameters=dict(parameters), pipeline_root=self._options.pipeline_root or None)
        body = V2beta1Run(
            display_name=run_name,
            experiment_id=self.names.made_experiment(),
            pipeline_version_reference=self.names.made_version(package),
            runtime_config=config,
            service_account=self._options.service_account or None,
        )
        return str(self.api.call(self.api.runs.run_service_create_run, body).run_id)

    def _run(self, run_id: str) -> ClusterRun:
        try:
            run = self.api.call(self.api.runs.run_service_get_run, run_id)
        except NotFoundError as error:
            raise NotFoundError(
                f"Kubeflow Pipelines at {self.api.host} knows no run {run_id!r}. Expected one of experiment "
                f"{self.names.experiment!r} that is not deleted. List them with `perennial kubeflow status`."
            ) from error
        return to_run(run, self._version_of(run))

    def _package_text(self, run_id: str) -> str | None:
        version = self._version_of(self.api.call(self.api.runs.run_service_get_run, run_id))
        if version is None:
            return None
        whole = version.pipeline_spec
        documents = [whole["pipeline_spec"], whole["platform_spec"]] if "pipeline_spec" in whole else [whole]
        return yaml.safe_dump_all(documents, allow_unicode=True)

    def _runs(self, limit: int) -> tuple[ClusterRun, ...]:
        answer = self.api.call(
            self.api.runs.run_service_list_runs,
            experiment_id=self.names.known_experiment(),
            page_size=limit,
            sort_by="created_at desc",
        )
        return tuple(to_run(run, self._version_of(run), has_tasks=False) for run in answer.runs or ())

    def _version_of(self, run: Any) -> Any | None:
        reference = run.pipeline_version_reference
        if reference is None:
            return None
        key = reference.pipeline_version_id
        if key not in self._versions:
            self._versions[key] = self.names.version(reference)
        return self._versions[key]
