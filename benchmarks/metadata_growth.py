"""`python -m benchmarks metadata`: how ML Metadata grows over 1,000 runs of our DAG, on SQLite and on PostgreSQL."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_metadata import errors
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from benchmarks.report import machine, print_json, write_section
from benchmarks.servers import NotInstalledError, execute, postgresql, postgresql_url
from benchmarks.simulated_runs import SimulatedRuns
from lineage.graph import load_models
from lineage.queries import find_model, model_lineage
from lineage.run_store import RunStore
from lineage.runs import node_runs
from lineage.store import connection_config
from pipeline.config import load_config
from pipeline.quiet import quiet_libraries

NUM_RUNS = 1000
REPORTED = (100, 500, 1000)
STEP_RUNS = 50
PLOT = Path("docs/metadata-growth.svg")
_DATABASE = "mlmd"

# How ML Metadata reaches the database, and what tells its size.
Backend = tuple[Any, Callable[[], int]]


def main(backends: list[str]) -> None:
    """Measure on the backends that are named, or on both; write section and plot."""
    quiet_libraries()
    curves: dict[str, list[dict[str, float]]] = {}
    missing = []
    for name, opened in {"sqlite": _sqlite, "postgresql": _postgresql}.items():
        if backends and name not in backends:
            continue
        try:
            with opened() as (config, count_bytes):
                refusal = _refuses_backslashes(MetadataStore(config))
                if refusal is not None:
                    missing.append(f"{name}, texts with a backslash: ML Metadata says {refusal!r}.")
                curves[name] = grow(config, count_bytes, has_backslashes=refusal is None)
        except (NotInstalledError, RuntimeError) as error:
            missing.append(f"{name}: {error}")
    _write(curves, missing)
    reported = {name: [point for point in curve if point["num_runs"] in REPORTED] for name, curve in curves.items()}
    print_json("metadata", missing=missing, **reported)


@contextmanager
def _sqlite() -> Iterator[Backend]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metadata.sqlite"
        yield connection_config(f"sqlite:///{path}"), lambda: path.stat().st_size


@contextmanager
def _postgresql() -> Iterator[Backend]:
    with postgresql() as folder:
        url = postgresql_url(folder, "postgres")
        execute(url, f"CREATE DATABASE {_DATABASE}")
        config = mlmd.ConnectionConfig()
        # A folder as host is a Unix socket to PostgreSQL's own client library, which ML Metadata has inside.
        config.postgresql.host, config.postgresql.port = str(folder), "5432"
        config.postgresql.user = "perennial"
        config.postgresql.dbname = _DATABASE
        yield config, lambda: int(execute(url, f"SELECT pg_database_size('{_DATABASE}')"))


def _refuses_backslashes(store: MetadataStore) -> str | None:
    """Return what the backend says to a text with a backslash in it, as TFX's JSON has; None if it takes it."""
    artifact = mlmd.Artifact(type_id=store.put_artifact_type(mlmd.ArtifactType(name="Probe")))
    artifact.custom_properties["text"].string_value = r"{\"a\": 1}"
    try:
        store.put_artifacts([artifact])
    except errors.StatusError as error:
        return " ".join(str(error).split())[:300]
    return None


def grow(connection: Any, count_bytes: Callable[[], int], *, has_backslashes: bool) -> list[dict[str, float]]:
    """Write all runs; return bytes and seconds after every `STEP_RUNS`."""
    config = load_config(Path("conf/flights.yaml"), ("root=/var/flights", "training.replay_ratio=0.5"))
    store = MetadataStore(connection)
    empty = count_bytes()
    runs = SimulatedRuns(store, config, has_backslashes=has_backslashes)
    curve = []
    while runs.num_runs < NUM_RUNS:
        started = time.perf_counter()
        for _ in range(STEP_RUNS):
            runs.write_run()
        point: dict[str, float] = {
            "num_runs": runs.num_runs,
            "bytes": count_bytes() - empty,
            "write_seconds_per_run": round((time.perf_counter() - started) / STEP_RUNS, 4),
        }
        if runs.num_runs in REPORTED:
            point |= _query_seconds(connection, store, runs)
        curve.append(point)
        print(point, file=sys.stderr)
    return curve


def _query_seconds(connection: Any, store: MetadataStore, runs: SimulatedRuns) -> dict[str, float]:
    run_id = runs.run_id(runs.num_runs)
    asked: dict[str, Callable[[], Any]] = {
        "outcome": lambda: node_runs(store, run_id),
        "node": lambda: _node_executions(connection, runs.pipeline_name, run_id),
        "lineage": lambda: _newest_lineage(store, runs.num_runs),
    }
    return {f"{name}_seconds": _seconds(question) for name, question in asked.items()}


def _node_executions(connection: Any, pipeline: str, run_id: str) -> object:
    """Ask what is asked for every node, as the first node of a run does: its executions in this run."""
    store = RunStore(connection, run_id)
    return store.get_executions_by_context(store.get_context_by_type_and_name("node", f"{pipeline}.Trainer").id)


def _newest_lineage(store: MetadataStore, version: int) -> object:
    graph = load_models(store, evaluated=[version])
    return model_lineage(graph, find_model(graph, version))


def _seconds(question: Callable[[], object]) -> float:
    question()
    started = time.perf_counter()
    question()
    return round(time.perf_counter() - started, 4)


def _write(curves: dict[str, list[dict[str, float]]], missing: list[str]) -> None:
    rows = [
        f"| {name} | {point['num_runs']:,} | {point['bytes'] / 2**20:.1f} | "
        f"{1000 * point['write_seconds_per_run']:.0f} | {1000 * point['node_seconds']:.0f} | "
        f"{1000 * point['outcome_seconds']:.0f} | {point['lineage_seconds']:.2f} |"
        for name, curve in curves.items()
        for point in curve
        if point["num_runs"] in REPORTED
    ]
    _plot(curves)
    write_section(
        "ML Metadata",
        (
            "Written by `python -m benchmarks metadata`. Simulated runs of our DAG, all its nodes, as TFX writes them:",
            "each node is registered and published in transactions of its own. Servers have their default settings.",
            f"{machine()}.",
            "",
            "| database | runs | MiB | write a run, ms | a node's executions, ms | a run's outcome, ms | lineage, s |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            *(line for sentence in missing for line in (f"Not measured: {sentence}", "")),
            f"![Size of the store and time of a run's writes, by runs]({PLOT.name})",
        ),
    )


def _plot(curves: dict[str, list[dict[str, float]]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    # Text as text, and the same file for the same numbers.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "perennial"})
    from matplotlib import pyplot

    figure, (size, writes) = pyplot.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for name, curve in curves.items():
        runs = [point["num_runs"] for point in curve]
        size.plot(runs, [point["bytes"] / 2**20 for point in curve], label=name)
        writes.plot(runs, [1000 * point["write_seconds_per_run"] for point in curve], label=name)
    size.set(xlabel="runs", ylabel="MiB", ylim=(0, None))
    writes.set(xlabel="runs", ylabel="write a run, ms", ylim=(0, None))
    size.legend(frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word in ("sqlite", "postgresql")])
