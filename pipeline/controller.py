"""One cycle, whole: read what is known, plan, run the DAG, record. Also the only place that moves the champion."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from core.digests import digest_of_file, digest_of_json
from core.errors import DataError, PipelineError
from core.files import write_text_atomically
from ingest.manifests import SpanListing, list_spans
from ledger.ledger import Ledger
from pipeline.config import Config, RunnerName
from pipeline.decision import Decision, write_decision
from pipeline.plan import Knowledge, RunPlan, Skip, next_span, plan_run, planned_span
from pipeline.preflight import check_config
from pipeline.record import Outcome, read_outcome
from pipeline.sources import digest_of_code
from schemas.ingestion import TfRecordOptions
from schemas.ledger_records import ModelRecord, RunOutcome, RunStart, SpanOutcome
from schemas.loader import load_schema
from schemas.spans import SpanRef
from schemas.verdicts import Verdict

OnNode = Callable[[str], None]
OnPlan = Callable[[RunPlan], None]


class Controller:
    """Runs cycles of one pipeline, one after another.

    Attributes:
        config: The pipeline's config.
        runner: `local` or `beam`.
        on_plan: Called with each plan before its DAG runs.
        on_node: Called with a node's id when the node starts.
    """

    def __init__(self, config: Config, ledger: Ledger, *, runner: RunnerName, on_plan: OnPlan, on_node: OnNode) -> None:
        self.config = config
        self.runner = runner
        self.on_plan = on_plan
        self.on_node = on_node
        self._ledger = ledger
        self._code_digest = digest_of_code()

    def run_next(self) -> Decision | Skip:
        """Run the cycle of the next span that is due, or say why none is."""
        knowledge = self._read_knowledge()
        due = next_span(knowledge, self.config.window)
        return due if isinstance(due, Skip) else self._run(knowledge, due, trigger="next")

    def run_span(self, span: int) -> Decision | Skip:
        """Run the cycle of the latest version of a span, or say that it is done.

        Raises:
            DataError: there is no such span.
        """
        knowledge = self._read_knowledge()
        ref = planned_span(knowledge, span)
        return ref if isinstance(ref, Skip) else self._run(knowledge, ref, trigger="manual")

    def run_spans(self, first: int, last: int) -> Iterator[Decision | Skip]:
        """Run the cycles of all spans from `first` to `last`, both included, in order."""
        for span in range(first, last + 1):
            yield self.run_span(span)

    def _read_knowledge(self) -> Knowledge:
        if isinstance(self.config.ingest.source, TfRecordOptions):
            self._adopt_new_spans()
        listing = list_spans(self.config.spans_path)
        if not listing.manifests and not listing.unusable:
            raise DataError(
                f"Pipeline {self.config.name!r} has no spans. Expected some below {str(self.config.spans_path)!r}. "
                "Run `perennial ingest` first."
            )
        self._ledger.register_spans({manifest.ref: manifest.num_examples for manifest in listing.manifests})
        shape = {
            "features": self.config.feature_set.model_dump(mode="json"),
            "model": self.config.training.model.model_dump(mode="json"),
        }
        latest = {ref.span: ref for ref in listing.refs}
        return Knowledge(
            spans=tuple(latest.values()),
            unusable=_unusable_spans(listing, latest),
            records=tuple(self._ledger.spans()),
            champion=self._ledger.champion(),
            model_shape=digest_of_json(shape),
        )

    def _adopt_new_spans(self) -> None:
        """Resolve the patterns of a folder of TFRecord spans: what somebody else writes needs no `ingest` of ours."""
        from ingest.ingestion import ingest

        ingest(self.config.ingest_options, self.config.spans_path, schema=load_schema(Path(self.config.schema_file)))

    def _run(self, knowledge: Knowledge, ref: SpanRef, *, trigger: str) -> Decision:
        check_config(self.config)
        decision = self._attempt(knowledge, ref, trigger=trigger, force_cold=None)
        if decision.outcome != "cold_start":
            return decision
        findings = [] if decision.drift is None else decision.drift.findings
        reasons = [f.sentence for f in findings if f.verdict == Verdict.COLD_START.word]
        return self._attempt(knowledge, ref, trigger="drift", force_cold=" ".join(reasons) or "drift")

    def _attempt(self, knowledge: Knowledge, ref: SpanRef, *, trigger: str, force_cold: str | None) -> Decision:
        started_at = datetime.now(UTC)
        plan = plan_run(
            knowledge,
            ref,
            self.config.window,
            trigger=trigger,
            now=started_at,
            push_version=self._ledger.reserve_version(),
            force_cold=force_cold,
        )
        folder = self.config.runs_path / plan.run_id
        write_text_atomically(folder / "config.json", self.config.model_dump_json(indent=1))
        self._ledger.start_run(
            RunStart(
                run_id=plan.run_id, span=ref.span, version=ref.version, trigger=trigger, plan=plan.model_dump_json()
            )
        )
        self.on_plan(plan)
        clock = time.monotonic()
        try:
            outcome = self._run_dag(plan)
        except PipelineError as error:
            self._record_failure(plan, started_at, time.monotonic() - clock, error)
            raise
        return self._record(knowledge, plan, outcome, started_at, time.monotonic() - clock)

    def _run_dag(self, plan: RunPlan) -> Outcome:
        # TensorFlow and TFX take seconds to import, and a plan may have said that there is nothing to do.
        from pipeline.graph import build_pipeline
        from pipeline.runners import run_pipeline

        graph = build_pipeline(self.config, plan, code_digest=self._code_digest)
        run_pipeline(graph, plan.run_id, span=plan.span.span, runner=self.runner, on_node=self.on_node)
        return read_outcome(self.config, plan, first_version=self._first_version())

    def _first_version(self) -> int | None:
        models = self._ledger.models()
        return models[0].version if models else None

    def _record(
        self, knowledge: Knowledge, plan: RunPlan, outcome: Outcome, started_at: datetime, seconds: float
    ) -> Decision:
        push = outcome.push
        if outcome.model is not None and push is not None:
            self._ledger.record_model(self._model_record(knowledge, plan, outcome))
            expected = plan.champion.version if plan.champion else None
            push = push.model_copy(update={"is_champion": self._ledger.promote(expected, push.version)})
        decision = Decision(
            pipeline=self.config.name,
            run_id=plan.run_id,
            runner=self.runner,
            started_at=started_at,
            outcome=outcome.word,
            reasons=(*plan.why, *outcome.reasons),
            plan=plan,
            drift=outcome.drift,
            gate=outcome.gate,
            training=outcome.training,
            push=push,
            first_model_auc=outcome.first_model_auc,
            seconds={**outcome.seconds, "total": round(seconds, 2)},
            digests=self._digests(plan),
        )
        path = write_decision(self.config.runs_path, decision)
        self._finish(plan, outcome, decision, path)
        return decision

    def _finish(self, plan: RunPlan, outcome: Outcome, decision: Decision, path: Path) -> None:
        if outcome.word != "cold_start":
            self._ledger.finish_span(plan.span, self._span_outcome(plan, outcome, decision))
        if outcome.gate is not None:
            reason = f"in the window of span {plan.span.span}"
            self._ledger.finish_history(plan.window[:-1], run_id=plan.run_id, reason=reason)
        self._ledger.finish_run(plan.run_id, outcome.word, decision_path=str(path))

    def _span_outcome(self, plan: RunPlan, outcome: Outcome, decision: Decision) -> SpanOutcome:
        return SpanOutcome.model_validate(
            {
                "state": outcome.word,
                "run_id": plan.run_id,
                "drift_verdict": outcome.drift.verdict,
                "candidate_auc": outcome.gate.candidate.get("auc") if outcome.gate else None,
                "champion_auc": outcome.gate.champion.get("auc") if outcome.gate else None,
                "pushed_version": decision.push.version if decision.push else None,
                "seconds": decision.seconds["total"],
                "statistics_uri": outcome.statistics_uri,
                "reason": outcome.reasons[0] if outcome.reasons else None,
            }
        )

    def _model_record(self, knowledge: Knowledge, plan: RunPlan, outcome: Outcome) -> ModelRecord:
        champion = plan.champion if plan.initialisation == "warm" else None
        return ModelRecord.model_validate(
            {
                **(outcome.model or {}),
                "version": plan.push_version,
                "run_id": plan.run_id,
                "span": plan.span.span,
                "span_version": plan.span.version,
                # A warm start keeps its line's transform graph, and with it what that graph was analysed on.
                "statistics_uri": champion.statistics_uri if champion else outcome.window_statistics_uri,
                "transform_span": champion.transform_span if champion else plan.span.span,
                "model_shape": knowledge.model_shape,
                "base_version": champion.version if champion else None,
                "pushed_at": datetime.now(UTC),
            }
        )

    def _record_failure(self, plan: RunPlan, started_at: datetime, seconds: float, error: PipelineError) -> None:
        text = f"{error.headline}: {error}"
        outcome: RunOutcome = "failed"
        decision = Decision(
            pipeline=self.config.name,
            run_id=plan.run_id,
            runner=self.runner,
            started_at=started_at,
            outcome=outcome,
            reasons=plan.why,
            plan=plan,
            seconds={"total": round(seconds, 2)},
            digests=self._digests(plan),
            error=text,
        )
        path = write_decision(self.config.runs_path, decision)
        self._ledger.finish_run(plan.run_id, outcome, error=text, decision_path=str(path))

    def _digests(self, plan: RunPlan) -> dict[str, str]:
        return {
            "code": self._code_digest,
            "config": self.config.digest,
            "schema": digest_of_file(Path(self.config.schema_file)),
            "data": digest_of_json([ref.model_dump() for ref in plan.window]),
        }


def _unusable_spans(listing: SpanListing, latest: dict[int, SpanRef]) -> dict[int, str]:
    """Return why a span cannot be used, for each whose newest version on disk is broken."""
    unusable = {}
    for folder, why in listing.unusable.items():
        span, version = (int(name.rpartition("-")[2]) for name in (folder.parent.name, folder.name))
        if span not in latest or version > latest[span].version:
            unusable[span] = why
    return unusable
