"""What a run refers to by id: its experiment, its pipeline, the version that was compiled. Found by name, or made."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError
from pipeline.kubeflow.kfp_api import KfpApi, NotFoundError

if TYPE_CHECKING:
    from pipeline.kubeflow.package import Package


def by_name(name: str) -> str:
    """Return the filter of a list by display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


class KfpNames:
    """Finds and makes what has names, for one pipeline.

    Two workers may make the same at the same time. A second pipeline or version of a name is refused by the server,
    and the whole is done again then; an experiment that exists is found.

    Args:
        api: The API.
        pipeline: Name of the pipeline.
    """

    def __init__(self, api: KfpApi, pipeline: str) -> None:
        self._api = api
        self._pipeline = pipeline
        self.experiment = api.options.experiment or pipeline

    def found_experiment(self) -> str | None:
        """Return the id of the experiment, or None."""
        namespace = self._api.namespace
        service = self._api.experiments
        answer = self._api.call(
            service.experiment_service_list_experiments, filter=by_name(self.experiment), namespace=namespace
        )
        return next((str(experiment.experiment_id) for experiment in answer.experiments or ()), None)

    def known_experiment(self) -> str:
        """Return the id of the experiment.

        Raises:
            ConfigError: there is none.
        """
        if (found := self.found_experiment()) is None:
            where = f" in namespace {self._api.namespace!r}" if self._api.namespace else ""
            raise ConfigError(
                f"Kubeflow Pipelines at {self._api.host} has no experiment {self.experiment!r}{where}. Expected the "
                "one that the first run makes. Submit a run, or correct `kubeflow.experiment` and `kubeflow.namespace`."
            )
        return found

    def made_experiment(self) -> str:
        """Return the id of the experiment, made if need be."""
        from kfp_server_api import V2beta1Experiment

        if (found := self.found_experiment()) is not None:
            return found
        body = V2beta1Experiment(display_name=self.experiment, namespace=self._api.namespace)
        return str(self._api.call(self._api.experiments.experiment_service_create_experiment, body).experiment_id)

    def made_version(self, package: "Package") -> Any:
        """Return a reference to the version that is a package; it is uploaded if no finished one has its name."""
        from kfp_server_api import V2beta1PipelineVersionReference

        pipeline_id = self._made_pipeline()
        answer = self._api.call(
            # A version is listed when it is complete, so a half-uploaded one is not found.
            self._api.pipelines.pipeline_service_list_pipeline_versions,
            pipeline_id,
            filter=by_name(package.version_name),
        )
        version = next(iter(answer.pipeline_versions or ()), None) or self._upload(pipeline_id, package)
        return V2beta1PipelineVersionReference(pipeline_id=pipeline_id, pipeline_version_id=version.pipeline_version_id)

    def version(self, reference: Any) -> Any | None:
        """Return a version with its specification, or None where it was deleted."""
        method = self._api.pipelines.pipeline_service_get_pipeline_version
        try:
            return self._api.call(method, reference.pipeline_id, reference.pipeline_version_id)
        except NotFoundError:
            return None

    def _made_pipeline(self) -> str:
        from kfp_server_api import V2beta1Pipeline

        service, namespace = self._api.pipelines, self._api.namespace
        answer = self._api.call(
            service.pipeline_service_list_pipelines, filter=by_name(self._pipeline), namespace=namespace
        )
        for pipeline in answer.pipelines or ():
            return str(pipeline.pipeline_id)
        body = V2beta1Pipeline(display_name=self._pipeline, namespace=namespace)
        return str(self._api.call(service.pipeline_service_create_pipeline, body).pipeline_id)

    def _upload(self, pipeline_id: str, package: "Package") -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{package.version_name}.yaml"
            path.write_text(package.text, encoding="utf-8")
            method = self._api.uploads.upload_pipeline_version
            return self._api.call(method, str(path), name=package.version_name, pipelineid=pipeline_id)
