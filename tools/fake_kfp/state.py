"""What a fake API server knows, and what it does with it: the rules of the real one, in memory."""

import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from tools.fake_kfp.messages import RefusedError

Document = dict[str, Any]
OVER = ("SUCCEEDED", "FAILED", "CANCELED")
# A test that looks at a run more often than this without anything new would look for ever.
MAX_IDLE_LOOKS = 100
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
}


@dataclass(frozen=True)
class Step:
    """What a run looks like the next time somebody looks.

    Attributes:
        state: The run's state.
        tasks: States of the tasks that have begun, by name.
        error: What the server says of the run's failure.
    """

    state: str
    tasks: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Fault:
    """What happens to requests instead of an answer, or after what was asked was done.

    Attributes:
        path: Part of the paths that it happens to; with `METHOD ` before, of these requests only.
        status: HTTP status of the answer; None: the connection is cut.
        body: Its body.
        is_done: Whether what was asked is done all the same, so that only the answer is lost.
        times: How many requests it happens to.
    """

    path: str
    status: int | None = 503
    body: str = '{"message": "no healthy upstream"}'
    is_done: bool = False
    times: int = 1


class Records:
    """Documents of one kind by id, in the order in which they were made."""

    def __init__(self, id_key: str, times: Iterable[int]) -> None:
        self._id_key = id_key
        self._times = iter(times)
        self.by_id: dict[str, Document] = {}

    def add(self, document: Document) -> Document:
        """Give a document its id and its time."""
        made = (_EPOCH + timedelta(seconds=next(self._times))).isoformat()
        document = {**document, self._id_key: str(uuid.uuid4()), "created_at": made}
        self.by_id[document[self._id_key]] = document
        return document

    def get(self, identity: str) -> Document:
        """Return a document."""
        if identity not in self.by_id:
            raise RefusedError(404, f"Failed to fetch: {self._id_key} {identity} not found")
        return self.by_id[identity]

    def page(self, query: Mapping[str, str], **equal: str | None) -> tuple[list[Document], str | None]:
        """Return what a list request asks for, and the token of the next page."""
        wanted = {**_predicates(query.get("filter")), **{key: value for key, value in equal.items() if value}}
        found = [
            document
            for document in self.by_id.values()
            if all(document.get(key) == value for key, value in wanted.items())
        ]
        key, _, order = query.get("sort_by", "created_at").partition(" ")
        found.sort(key=lambda document: str(document[key]), reverse=order == "desc")
        start, size = int(query.get("page_token") or 0), int(query.get("page_size") or 20)
        return found[start : start + size], str(start + size) if start + size < len(found) else None


class State:
    """All that the server knows.

    Attributes:
        steps: What runs look like next, one step a look; a run that is over takes none.
        execute: Called with a run's document when it begins or is retried, instead of steps; it may change `state` and
            `tasks` of it.
    """

    def __init__(self) -> None:
        times = itertools.count()
        self.experiments = Records("experiment_id", times)
        self.pipelines = Records("pipeline_id", times)
        self.versions = Records("pipeline_version_id", times)
        self.runs = Records("run_id", times)
        self.recurring_runs = Records("recurring_run_id", times)
        self.half_uploaded: set[str] = set()
        self.steps: list[Step] = []
        self.tasks: dict[str, dict[str, str]] = {}
        self.execute: Callable[[Document], None] | None = None
        self._num_idle_looks = 0

    def add_named(self, records: Records, document: Document, **scope: str | None) -> Document:
        """Add a document whose name nobody else may have."""
        name = document.get("display_name")
        if not name:
            raise RefusedError(400, "The name is empty. Please specify a valid name")
        same = {"display_name": name, **{key: value for key, value in scope.items() if value}}
        if any(all(other.get(key) == value for key, value in same.items()) for other in records.by_id.values()):
            raise RefusedError(409, f"Already exist error: {name}")
        return records.add(document)

    def add_version(self, pipeline_id: str, name: str, text: str) -> Document:
        """Add an uploaded package."""
        self.pipelines.get(pipeline_id)
        documents = list(yaml.safe_load_all(text))
        spec = documents[0] if documents else None
        if not isinstance(spec, dict) or not {"pipelineInfo", "root"} <= spec.keys():
            raise RefusedError(400, "unknown template format")
        if spec.get("schemaVersion") != "2.1.0":
            raise RefusedError(400, f"pipeline spec schema version {spec.get('schemaVersion')} is not supported")
        whole = {"pipeline_spec": spec, "platform_spec": documents[1]} if len(documents) > 1 else spec
        version = {"pipeline_id": pipeline_id, "display_name": name, "pipeline_spec": whole}
        return self.add_named(self.versions, version, pipeline_id=pipeline_id)

    def spec(self, reference: Mapping[str, str] | None) -> Document:
        """Return the pipeline spec of a version."""
        version = self.versions.get((reference or {}).get("pipeline_version_id", ""))
        if version["pipeline_version_id"] in self.half_uploaded:
            raise RefusedError(404, "pipeline version is not ready")
        whole: Document = version["pipeline_spec"]
        spec: Document = whole.get("pipeline_spec", whole)
        return spec

    def start_run(self, document: Document) -> Document:
        """Add a run of a version, if its parameters fit."""
        if not document.get("display_name"):
            raise RefusedError(400, "The run name is empty. Please specify a valid name")
        self.experiments.get(document.get("experiment_id", ""))
        parameters = document.get("runtime_config", {}).get("parameters", {})
        _check_parameters(self.spec(document.get("pipeline_version_reference")), parameters)
        return self.begin(self.runs.add({**document, "state": "PENDING"}))

    def begin(self, run: Document) -> Document:
        """Let a run begin, or go on."""
        if self.execute is not None:
            self.execute(run)
        return run

    def look(self, run_id: str) -> Document:
        """Return a run with its tasks; time passes from look to look."""
        run = self.runs.get(run_id)
        if run["state"] == "CANCELING":
            self._move(run, "FAILED")
        elif run["state"] not in OVER and self.steps and self.execute is None:
            step = self.steps.pop(0)
            self.tasks.setdefault(run_id, {}).update(step.tasks)
            self._move(run, step.state)
            if step.error:
                run["error"] = {"code": 13, "message": step.error}
        elif run["state"] not in OVER:
            self._num_idle_looks += 1
            if self._num_idle_looks > MAX_IDLE_LOOKS:
                raise RefusedError(400, f"Nobody says how run {run_id} goes on: add steps, or set `execute`")
        return {**run, "run_details": {"task_details": list(self._details(run))}}

    def terminate(self, run_id: str) -> None:
        """Tell a run to stop; Argo ends it as a failed one some time later."""
        run = self.runs.get(run_id)
        if run["state"] in OVER:
            raise RefusedError(400, f"Failed to terminate run {run_id}: it is over")
        self._move(run, "CANCELING")

    def retry(self, run_id: str) -> None:
        """Start again what failed."""
        run = self.runs.get(run_id)
        if run["state"] not in ("FAILED", "CANCELED"):
            raise RefusedError(400, "Workflow must be Failed/Error to retry")
        tasks = self.tasks.get(run_id, {})
        self.tasks[run_id] = {name: state for name, state in tasks.items() if state in ("SUCCEEDED", "SKIPPED")}
        run.pop("error", None)
        self._move(run, "RUNNING")
        self.begin(run)

    def _move(self, run: Document, state: str) -> None:
        if run["state"] != state:
            run["state"] = state
            run["state_history"] = [*run.get("state_history", []), {"state": state}]

    def _details(self, run: Document) -> Iterable[Document]:
        """Yield every step of the Argo workflow, as the server does: drivers, pods and groups too, in no order."""
        states = self.tasks.get(run["run_id"], {})
        extra = {"root": "RUNNING", "root-driver": "SUCCEEDED", "executor": "SUCCEEDED", "executor(0)": "SUCCEEDED"}
        drivers = {f"{name}-driver": "SUCCEEDED" for name in states}
        everything = [*extra.items(), *drivers.items(), *states.items()]
        begun = {name: index for index, (name, _) in enumerate(everything)}
        for name, state in sorted(everything, reverse=True):
            start = (_EPOCH + timedelta(days=1, seconds=begun[name])).isoformat()
            yield {"run_id": run["run_id"], "task_id": f"wf-{name}", "display_name": name, "state": state} | {
                "start_time": start
            }


def _predicates(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    predicates = json.loads(text)["predicates"]
    if any(predicate["operation"] != "EQUALS" for predicate in predicates):
        raise RefusedError(400, f"failed to parse valid filter from {text!r}")
    return {predicate["key"]: predicate["string_value"] for predicate in predicates}


def _check_parameters(spec: Document, given: Mapping[str, Any]) -> None:
    """Refuse parameters that the root does not take, that are missing, or of another type."""
    known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if unknown := sorted(given.keys() - known.keys()):
        raise RefusedError(400, f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")
    for name, definition in known.items():
        if name not in given:
            if "defaultValue" not in definition and not definition.get("isOptional"):
                raise RefusedError(400, f"pipeline requires parameter {name}")
        elif not isinstance(given[name], _JSON_TYPES[definition["parameterType"]]):
            raise RefusedError(400, f"parameter {name} has the wrong type: {given[name]!r}")
