"""The last task of a run: records in the ledger what the run did, so that a run records itself though nobody follows.

    python -m pipeline.kubeflow.recorder --config JSON --run-id ID --executor-input JSON

It is the record of `pipeline.cycle`, step by step. It writes as whoever holds the lease, and every step may be
repeated: where another worker takes over meanwhile it fails, and KFP's next attempt writes for that one.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigError, LedgerError
from ledger.ledger import Ledger
from pipeline.config import Config
from pipeline.cycle import Cycle, Fence, Listeners, NodeObserver
from pipeline.decision import Decision
from pipeline.failures import failure_of
from pipeline.kubeflow.uris import check_brought, local_path
from pipeline.plan import RunPlan
from pipeline.quiet import quiet_libraries
from pipeline.record import Outcome, read_outcome
from pipeline.sources import digest_of_code


class FinishedDag:
    """A DAG that a cluster has run to its end already.

    Attributes:
        runner: What ran it.
    """

    def __init__(self, config: Config) -> None:
        self.runner = config.runner
        self.code_digest = digest_of_code()
        self._config = config

    def run(self, plan: RunPlan, observer: NodeObserver) -> None:
        """Do nothing: every node has run."""

    def outcome(self, plan: RunPlan, *, first_version: int | None, trained: Decision | None) -> Outcome:
        """Read what the DAG did from ML Metadata and from what the launcher brought."""
        return read_outcome(self._config, plan, first_version=first_version, trained=trained, locate=local_path)

    def give_up(self, run_id: str, fenced: Fence) -> None:
        """Do nothing: who follows the run gives it up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the run that the command line names; a failure prints headline and sentence.

    Returns:
        The exit code: 0, or that of the failure's class.
    """
    options = _parser().parse_args(arguments)
    quiet_libraries()
    try:
        sys.stdout.write(f"{_record(options.config, options.run_id, options.executor_input)}\n")
    except Exception as error:
        failure = failure_of(error)
        if failure is not error:
            # Nobody can ask a pod that is gone for more.
            traceback.print_exception(error)
        sys.stderr.write(f"{failure.headline}: Run {options.run_id!r} could not be recorded. {failure}\n")
        return failure.exit_code
    return 0


def record(config: Config, ledger: Ledger, run_id: str) -> str:
    """Record a run whose DAG is finished, and return a sentence on it.

    Args:
        config: The pipeline's config, as this task sees it.
        ledger: Its ledger, without a lease.
        run_id: The run.

    Raises:
        LedgerError: no such run was started.
        LeaseLostError: another worker took over meanwhile; another attempt writes for that one.
        PipelineError: what the run left cannot be read.
    """
    run = ledger.run(run_id)
    if run.outcome is not None:
        return f"Run {run_id!r} is closed already: {run.outcome}. Nothing was recorded."
    ledger.adopt()

    def keep(decision: Decision) -> None:
        ledger.keep_decision(run_id, decision.model_dump_json())

    cycle = Cycle(config, ledger, FinishedDag(config), Listeners(decided=keep))
    decision = cycle.run(RunPlan.model_validate_json(run.plan), started_at=run.started_at)
    return f"Run {run_id!r} of span {decision.plan.span.span}: {decision.outcome}. {' '.join(decision.reasons)}"


def _record(config_json: str, run_id: str, executor_input: str) -> str:
    config, asked = _config(config_json), _asked(executor_input)
    if not Ledger.exists(config.ledger_url):
        raise LedgerError(
            f"Pipeline {config.name!r} has no ledger here. Expected the one that the run was planned with. Let the "
            "pods and whoever submits use the same `ledger`."
        )
    with Ledger.open(config.ledger_url, config.name) as ledger:
        if ledger.run(run_id).outcome is None:
            for key, uri in _inputs(asked):
                check_brought(key, uri)
        said = record(config, ledger, run_id)
    _write_answer(asked)
    return said


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.recorder",
        description="Record in the ledger what a run of the cluster did, move the champion, and let serving see it.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="the pipeline's config as JSON, with the pods' paths")
    parser.add_argument("--run-id", required=True, help="name of the run")
    parser.add_argument("--executor-input", required=True, help="KFP's ExecutorInput")
    return parser


def _config(text: str) -> Config:
    try:
        return Config.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(
            f"--config is no config of this Perennial: {error.errors(include_url=False)[0]['msg']}. Expected "
            "what the package was compiled with. Compile it again, with the image's version."
        ) from error


def _asked(text: str) -> dict[str, Any]:
    try:
        asked = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"--executor-input is no JSON: {error}. Expected KFP's ExecutorInput; received {text!r:.80}. Compile the "
            "package again with `perennial kubeflow compile`."
        ) from error
    return asked if isinstance(asked, dict) else {}


def _inputs(asked: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, found in asked.get("inputs", {}).get("artifacts", {}).items():
        for artifact in found.get("artifacts", []):
            yield key, str(artifact["uri"])


def _write_answer(asked: dict[str, Any]) -> None:
    """Write for the launcher that there are no outputs."""
    if output_file := asked.get("outputs", {}).get("outputFile"):
        path = Path(output_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
