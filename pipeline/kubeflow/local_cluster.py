"""This machine as a cluster: the runner `kubeflow-local`, for tests and for looking at a cluster's ways on a laptop."""

import atexit
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.errors import ConfigError, LeaseHeldError
from core.files import path_inside
from pipeline.config import Config
from pipeline.kubeflow.cluster import OVER, ClusterRun
from pipeline.kubeflow.local_folder import RunFolder
from pipeline.kubeflow.local_run import LocalOptions, go_on, prepare_run
from pipeline.kubeflow.local_task import end_orphan
from pipeline.kubeflow.package_spec import PackageSpec, read_package

if TYPE_CHECKING:
    from pipeline.kubeflow.package import Package


class LocalCluster:
    """Runs packages by `run_package`, each in the background of this process and a folder of its own.

    What a run of KFP would outlive, such as the end of this process, ends the tasks; submitted or retried again, the
    run goes on with what had not succeeded.

    Args:
        config: The pipeline's config. Runs lie in `kubeflow/RUN_NAME` below its root; artifacts below
            `kubeflow.pipeline_root`, played by the folder `kubeflow/store`, or with the local runs' where it is empty.
        options: How many tasks at a time.
    """

    def __init__(self, config: Config, options: LocalOptions | None = None) -> None:
        self._root = config.root_path / "kubeflow"
        self._pipeline_root = config.kubeflow.pipeline_root or str(config.artifacts_path)
        self._options = options or LocalOptions()
        self._threads: dict[str, threading.Thread] = {}
        self._stops: dict[str, threading.Event] = {}
        atexit.register(self.leave)

    def submit(self, package: "Package", *, run_name: str, parameters: Mapping[str, str | int]) -> str:
        """Start the run of that name, or find it where it was started before, and go on if nobody runs it."""
        folder = prepare_run(
            package.text,
            parameters=parameters,
            root=self._folder_of(run_name).path,
            run_name=run_name,
            pipeline_root=self._pipeline_root,
            store=self._root / "store",
            version_name=package.version_name,
        )
        if folder.record().state not in OVER:
            self._start(run_name)
        return run_name

    def find(self, run_name: str) -> str | None:
        """Return the id of the run of that name, or None if there is none."""
        return run_name if self._folder_of(run_name).exists() else None

    def run(self, run_id: str) -> ClusterRun:
        """Return a run as it stands."""
        folder = self._known(run_id)
        return folder.view(_package_in(folder))

    def retry(self, run_id: str) -> None:
        """Go on with what has not succeeded."""
        if self.run(run_id).state in ("failed", "cancelled"):
            self._start(run_id)

    def cancel(self, run_id: str) -> None:
        """End the run's tasks."""
        if run_id in self._stops:
            self._stops[run_id].set()
            self._threads[run_id].join()
        folder = self._known(run_id)
        if folder.record().state not in OVER:
            with folder.held():
                for task in _package_in(folder).tasks:
                    end_orphan(folder.task(task))
                folder.write(folder.record().model_copy(update={"state": "cancelled"}))

    def url(self, run_id: str) -> str:
        """Return the folder of the run."""
        return self._folder_of(run_id).path.as_uri()

    def leave(self) -> None:
        """End the tasks of all runs; called at the end of the process."""
        for stop in self._stops.values():
            stop.set()
        for thread in self._threads.values():
            thread.join()

    def _start(self, run_id: str) -> None:
        thread = self._threads.get(run_id)
        if thread is not None and thread.is_alive():
            return
        stop = self._stops[run_id] = threading.Event()
        folder = self._known(run_id)
        # Who asks before it runs must not take the end of the last attempt for this one's.
        folder.write(folder.record().model_copy(update={"state": "pending", "error": None, "finished_at": None}))
        arguments = {"folder": folder, "options": self._options, "stop": stop}
        # A daemon: the end of this process is ours to turn into the end of the tasks.
        thread = threading.Thread(target=_run_quietly, kwargs=arguments, name=f"run-{run_id}", daemon=True)
        self._threads[run_id] = thread
        thread.start()

    def _folder_of(self, run_name: str) -> RunFolder:
        return RunFolder(path_inside(self._root, run_name))

    def _known(self, run_id: str) -> RunFolder:
        folder = self._folder_of(run_id)
        if not folder.exists():
            raise ConfigError(
                f"No run {run_id!r} was ever started on this machine. Expected one of those in {self._root}. "
                "Check the name, or submit it."
            )
        return folder


def _package_in(folder: RunFolder) -> PackageSpec:
    return read_package(folder.package_path.read_text(encoding="utf-8"))


def _run_quietly(folder: RunFolder, options: LocalOptions, stop: threading.Event) -> None:
    """Run to the end; how it ended is in the folder, also where it could not even begin."""
    try:
        go_on(folder, options=options, stop=stop)
    except LeaseHeldError:
        # Another process runs it, and will say how it ends.
        return
    except Exception as error:
        record = folder.record()
        if record.state not in OVER:
            folder.write(record.model_copy(update={"state": "failed", "error": str(error)}))
