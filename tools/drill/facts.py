"""Everything that workers left behind, read once they are gone. What must hold of it is in `invariants.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.digests import digest_of_file
from core.files import TEMPORARY_PREFIX
from ledger.ledger import Ledger
from pipeline.config import Config, load_config
from schemas.ledger_records import ChampionMove, Lease, ModelRecord, RunRecord, SpanRecord, Transition

if TYPE_CHECKING:
    from ml_metadata.metadata_store.metadata_store import MetadataStore

PIPELINE_RUN_CONTEXT = "pipeline_run"
NODE_CONTEXT = "node"


@dataclass(frozen=True)
class NodeExecution:
    """One execution of one node.

    Attributes:
        state: ML Metadata's word, e.g. `COMPLETE`, `RUNNING`.
    """

    run_id: str
    node_id: str
    state: str


@dataclass(frozen=True)
class Facts:
    """What is on disk, in the ledger and in ML Metadata, of one pipeline.

    Attributes:
        spans: All versions of all spans.
        transitions: Steps of the spans, per span oldest first.
        runs: Cycles, oldest first.
        models: Pushed models, oldest first.
        moves: Moves of the champion pointer, oldest first.
        champion: Version that the ledger says serves; None for none.
        lease: Who holds the pipeline.
        executions: All executions of all nodes.
        lineage: What ML Metadata says made the champion, in the words of `perennial lineage model champion --json`.
        visible: Versions that serving sees, oldest first.
        predictions: Scores by the highest visible version of the eval split of the newest span.
        decisions: Digest of every run's decision record, by run id.
        temporaries: Paths below the root that are named as temporary files and folders are.
    """

    spans: tuple[SpanRecord, ...]
    transitions: tuple[Transition, ...]
    runs: tuple[RunRecord, ...]
    models: tuple[ModelRecord, ...]
    moves: tuple[ChampionMove, ...]
    champion: int | None
    lease: Lease | None
    executions: tuple[NodeExecution, ...]
    lineage: dict[str, Any] | None
    visible: tuple[int, ...]
    predictions: tuple[float, ...]
    decisions: dict[str, str]
    temporaries: tuple[str, ...]


def read_facts(config_file: Path) -> Facts:
    """Read everything that a pipeline's workers left; loads TensorFlow, for the predictions."""
    from lineage.store import opened_store

    config = load_config(config_file, ())
    with Ledger.open(config.ledger_url, config.name) as ledger:
        champion = ledger.champion()
        from_ledger: dict[str, Any] = {
            "spans": tuple(ledger.spans()),
            "transitions": tuple(step for span in _span_numbers(ledger) for step in ledger.transitions(span)),
            "runs": tuple(ledger.runs()),
            "models": tuple(ledger.models()),
            "moves": tuple(ledger.champion_moves()),
            "champion": champion.version if champion else None,
            "lease": ledger.lease(),
        }
    with opened_store(config.metadata_url) as store:
        executions = tuple(_executions(store))
        lineage = _lineage(store, champion.version) if champion else None
    visible = visible_versions(config.serving_path)
    return Facts(
        **from_ledger,
        executions=executions,
        lineage=lineage,
        visible=visible,
        predictions=_predictions(config, visible[-1]) if visible else (),
        decisions={path.parent.name: digest_of_file(path) for path in config.runs_path.glob("*/decision.json")},
        temporaries=tuple(sorted(str(path) for path in config.root_path.rglob(f"{TEMPORARY_PREFIX}*"))),
    )


def visible_versions(serving: Path) -> tuple[int, ...]:
    """Return the versions that TensorFlow Serving would find, oldest first."""
    if not serving.is_dir():
        return ()
    return tuple(sorted(int(entry.name) for entry in serving.iterdir() if entry.name.isdecimal()))


def _span_numbers(ledger: Ledger) -> list[int]:
    return sorted({record.span for record in ledger.spans()})


def _executions(store: "MetadataStore") -> list[NodeExecution]:
    from ml_metadata.proto import metadata_store_pb2

    executions = []
    states = metadata_store_pb2.Execution.State
    for execution in store.get_executions():
        names = {context.type: context.name for context in store.get_contexts_by_execution(execution.id)}
        state = states.Name(execution.last_known_state)
        node_id = names.get(NODE_CONTEXT, "").rpartition(".")[2]
        executions.append(NodeExecution(names.get(PIPELINE_RUN_CONTEXT, ""), node_id, state))
    return executions


def _lineage(store: "MetadataStore", version: int) -> dict[str, Any]:
    from lineage.graph import load_models
    from lineage.queries import find_model, model_lineage

    graph = load_models(store)
    return model_lineage(graph, find_model(graph, version)).model_dump(mode="json", by_alias=True)


def _predictions(config: Config, version: int) -> tuple[float, ...]:
    from ingest.manifests import list_spans, read_manifest
    from schemas.spans import span_folder
    from serving.scoring import Scorer

    newest = list_spans(config.spans_path).refs[-1]
    folder = span_folder(config.spans_path, newest.span, newest.version)
    manifest = read_manifest(config.spans_path, newest.span, newest.version)
    files = [folder / file.path for file in manifest.files["eval"]]
    scorer = Scorer(config.serving_path / str(version))
    return tuple(float(score) for score in scorer.score_files(files, config.label)[1])
