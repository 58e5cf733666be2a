"""One side of the cycle's benchmark as a process: reads requests, a JSON object a line, and answers each in kind.

A request `{"span": 3, "epochs": 1}` runs a cycle; the answer says what it took. Each side in a process of its own:
neither pays for the other's memory, caches or threads.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest.manifests import read_manifest
from ledger.ledger import Ledger
from lineage.runs import node_runs
from lineage.store import opened_store
from pipeline.config import Config, load_config
from pipeline.memory import release_memory
from pipeline.quiet import quiet_libraries

Answer = dict[str, Any]
Run = Callable[[int, int], Answer]


def main(side: str, config_path: str, root: str, *overrides: str) -> None:
    """Answer requests until standard input ends."""
    # Answers go where nobody prints: libraries write to standard output too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    quiet_libraries()
    config = load_config(Path(config_path), overrides)
    run = {"ours": _ours, "vanilla": _vanilla}[side](config, Path(root))
    for line in sys.stdin:
        request = json.loads(line)
        start, cpu_start = time.perf_counter(), time.process_time()
        answer = run(request["span"], request["epochs"])
        answer |= {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu_start,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), file=answers, flush=True)
        if side == "ours":
            release_memory()  # as a worker does between two cycles


def _ours(config: Config, root: Path) -> Run:
    from pipeline.controller import Controller
    from pipeline.decision import Decision
    from pipeline.tfx_dag import TfxDag

    ledger = Ledger.open(config.ledger_url, config.name)
    controller = Controller(config, ledger, dag=TfxDag(config, "local"))

    def run(span: int, epochs: int) -> Answer:
        decision = controller.run_span(span)
        if not isinstance(decision, Decision) or decision.gate is None:
            raise SystemExit(f"Span {span} was not trained on: {decision}")
        return {
            "outcome": decision.outcome,
            "nodes": {name: seconds for name, seconds in decision.seconds.items() if name != "total"},
            "auc": decision.gate.candidate["auc"],
            "is_refresh": bool(decision.plan.analysis_window),
        }

    return run


def _vanilla(config: Config, root: Path) -> Run:
    from benchmarks.vanilla.pipeline import run_vanilla

    root.mkdir(parents=True, exist_ok=True)

    def run(span: int, epochs: int) -> Answer:
        files = read_manifest(config.spans_path, span, 1).files
        num_train, num_eval = (sum(file.num_examples for file in files[split]) for split in ("train", "eval"))
        run_vanilla(config, root, span, num_train=num_train, num_eval=num_eval, epochs=epochs)
        return read_vanilla_run(root)

    return run


def read_vanilla_run(root: Path) -> Answer:
    """Return the nodes' seconds and the AUC of the newest run of a vanilla pipeline."""
    with opened_store(f"sqlite:///{root / 'metadata.sqlite'}") as store:
        newest = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
        nodes = node_runs(store, newest.name)
    return {
        "outcome": "pushed" if nodes["Pusher"].outputs["pushed_model"].properties.get("pushed") else "rejected",
        "nodes": {name: round(node.seconds, 2) for name, node in nodes.items()},
        "auc": _auc(Path(nodes["Evaluator"].outputs["evaluation"].uri)),
    }


def _auc(evaluation: Path) -> float:
    import tensorflow_model_analysis as tfma

    # With a baseline beside it, TFX names the candidate so.
    config = tfma.load_eval_result(str(evaluation)).config
    name = "candidate" if len(config.model_specs) > 1 else None
    metrics = tfma.load_eval_result(str(evaluation), model_name=name).get_metrics_for_slice(())
    return float(metrics["auc"]["doubleValue"])


if __name__ == "__main__":
    main(*sys.argv[1:])
