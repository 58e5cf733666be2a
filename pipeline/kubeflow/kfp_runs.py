"""Kubeflow Pipelines' runs in our words: which of their tasks are nodes of the DAG, and what their states mean."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.kubeflow.cluster import ClusterRun, RunState, TaskRun, TaskState

_RUN_STATES: dict[str | None, RunState] = {
    "RUNNING": "running",
    # Tasks go on for a while after a run was told to stop.
    "CANCELING": "running",
    "PAUSED": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "cancelled",
}
_TASK_STATES: dict[str | None, TaskState] = {
    "RUNNING": "running",
    "CANCELING": "running",
    "PAUSED": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "failed",
}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def to_run(run: Any, version: Any | None, *, has_tasks: bool = True) -> ClusterRun:
    """Return a run of the API as a cluster's.

    Args:
        run: The API's run.
        version: The version that it runs; None where it was deleted.
        has_tasks: Whether the tasks are wanted too.
    """
    parameters = (run.runtime_config and run.runtime_config.parameters) or {}
    return ClusterRun(
        id=run.run_id,
        name=run.display_name,
        state=_state(run),
        tasks=tuple(_tasks(run, version)) if has_tasks else (),
        error=_words(run),
        created_at=run.created_at,
        finished_at=run.finished_at if _state(run) in ("succeeded", "failed", "cancelled") else None,
        package=version.display_name if version else None,
        parameters={name: _value(value) for name, value in parameters.items()},
    )


def container_tasks(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of all tasks of a pipeline spec, sub-DAGs included, that run a container.

    Example:
        >>> executors = {"a": {"container": {}}, "b": {"importer": {}}}
        >>> tasks = {"A": {"componentRef": {"name": "x"}}, "B": {"componentRef": {"name": "y"}}}
        >>> components = {"x": {"executorLabel": "a"}, "y": {"executorLabel": "b"}}
        >>> sorted(container_tasks({"deploymentSpec": {"executors": executors}, "components": components,
        ...     "root": {"dag": {"tasks": tasks}}}))
        ['A']
    """
    return frozenset(_container_tasks(spec, spec["root"]["dag"]))


def _container_tasks(spec: Mapping[str, Any], dag: Mapping[str, Any]) -> Iterator[str]:
    for name, task in dag["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            yield from _container_tasks(spec, component["dag"])
        elif "container" in spec["deploymentSpec"]["executors"][component["executorLabel"]]:
            yield name


def _tasks(run: Any, version: Any | None) -> Iterator[TaskRun]:
    """Yield the tasks that have begun, the earliest first.

    The API lists every step of the Argo workflow: drivers, pods and groups among them, which no node stands for.
    """
    spec = (version and version.pipeline_spec) or {}
    names = container_tasks(spec.get("pipeline_spec", spec)) if spec else None
    details = (run.run_details and run.run_details.task_details) or ()
    for detail in sorted(details, key=lambda detail: (detail.start_time or _LONG_AGO, detail.task_id or "")):
        state = _TASK_STATES.get(detail.state)
        is_node = _looks_like_node(detail.display_name) if names is None else detail.display_name in names
        if state is not None and is_node:
            yield TaskRun(node_id=detail.display_name, state=state, error=_words(detail))


def _looks_like_node(name: str | None) -> bool:
    """Tell a node from what Kubeflow Pipelines adds, by its name alone; the names of our nodes are one word."""
    return bool(name) and name not in ("root", "executor", "driver") and str(name).isalnum()


def _state(run: Any) -> RunState:
    state = _RUN_STATES.get(run.state, "pending")
    states = [status.state for status in run.state_history or ()]
    # Argo knows no cancelled workflow: one that was told to stop ends as failed.
    if state == "failed" and "CANCELING" in states[-2:]:
        return "cancelled"
    return state


def _words(run_or_task: Any) -> str | None:
    error = run_or_task.error
    if error is None:
        history = run_or_task.state_history or ()
        error = next((status.error for status in reversed(history) if status.error), None)
    return (error.message or None) if error else None


def _value(value: Any) -> str | int:
    """Return a parameter's value; JSON has no integers of its own."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
