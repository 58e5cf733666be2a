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
from pipeline.plan import Knowledge, Request, RunPlan, Skip, next_span, plan_run, planned_span, shadow_is_due
from pipeline.preflight import check_config
from pipeline.record import Outcome, read_outcome
from pipeline.sources import digest_of_code
from schemas.ingestion import TfRecordOptions
from schemas.ledger_records import ModelRecord, RunOutcome, RunStart, SpanOutcome
from schemas.loader import load_schema
from schemas.spans import SpanRef
from schemas.training import ModelShape
from schemas.verdicts import Verdict

SHADOW_TRIGGER = "shadow"
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
        latest = {ref.span: ref for ref in listing.refs}
        return Knowledge(
            spans=tuple(latest.values()),
            unusable=_unusable_spans(listing, latest),
            records=tuple(self._ledger.spans()),
            champion=self._ledger.champion(),
            shape=ModelShape(feature_set=self.config.feature_set, model=self.config.training.model),
            line_start_span=self._line_start_span(),
            last_full_training_span=self._last_full_training_span(),
        )

    def _line_start_span(self) -> int | None:
        model: ModelRecord | None = self._ledger.champion()
        models = {model.version: model for model in self._ledger.models()}
        while model is not None and model.base_version is not None:
            model = models.get(model.base_version)
        return model.span if model else None

    def _last_full_training_span(self) -> int | None:
        cold = [model.span for model in self._ledger.models() if model.base_version is None]
        shadows = [run.span for run in self._ledger.runs() if run.trigger == SHADOW_TRIGGER]
        return max(cold + shadows, default=None)

    def _adopt_new_spans(self) -> None:
        """Resolve the patterns of a folder of TFRecord spans: what somebody else writes needs no `ingest` of ours."""
        from ingest.ingestion import ingest

        ingest(self.config.ingest_options, self.config.spans_path, schema=load_schema(Path(self.config.schema_file)))

    def _run(self, knowledge: Knowledge, ref: SpanRef, *, trigger: str) -> Decision:
        check_config(self.config)
        decision = self._attempt(knowledge, ref, trigger=trigger)
        if decision.outcome == "cold_start":
            findings = [] if decision.drift is None else decision.drift.findings
            reasons = [f.sentence for f in findings if f.verdict == Verdict.COLD_START.word]
            decision = self._attempt(knowledge, ref, trigger="drift", force_cold=" ".join(reasons) or "drift")
        return self._with_shadow(decision, ref)

    def _with_shadow(self, decision: Decision, ref: SpanRef) -> Decision:
        """Train the shadow model after the cycle of `ref`, if it is due, and put its decision inside the cycle's."""
        # Asked first: reading what is known lists every span, and most pipelines have no shadow.
        if self.config.window.shadow_every_spans is None or decision.outcome == "blocked":
            return decision
        knowledge = self._read_knowledge()
        if not shadow_is_due(knowledge, ref.span, self.config.window):
            return decision
        age_spans = ref.span - (knowledge.last_full_training_span or 0)
        why = f"the last full training was {age_spans} spans ago; this one is a shadow model."
        shadow = self._attempt(knowledge, ref, trigger=SHADOW_TRIGGER, force_cold=why)
        return decision.model_copy(update={"shadow": shadow})

    def _attempt(self, knowledge: Knowledge, ref: SpanRef, *, trigger: str, force_cold: str | None = None) -> Decision:
        started_at = datetime.now(UTC)
        request = Request(
            span=ref,
            trigger=trigger,
            now=started_at,
            push_version=self._ledger.reserve_version(),
            force_cold=force_cold,
            is_shadow=trigger == SHADOW_TRIGGER,
        )
        plan = plan_run(knowledge, request, self.config.window, initialisation=self.config.training.initialisation)
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
            prequential=outcome.prequential,
            push=push,
            first_model_auc=outcome.first_model_auc,
            seconds={**outcome.seconds, "total": round(seconds, 2)},
            digests=self._digests(plan),
        )
        path = write_decision(self.config.runs_path, decision)
        self._finish(plan, outcome, decision, path)
        return decision

    def _finish(self, plan: RunPlan, outcome: Outcome, decision: Decision, path: Path) -> None:
        # A shadow model is trained for a span that has its own outcome already.
        if outcome.word != "cold_start" and not plan.is_shadow:
            self._ledger.finish_span(plan.span, self._span_outcome(plan, outcome, decision))
        if outcome.gate is not None and not plan.is_shadow:
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
                "replay_uri": outcome.replay_uri,
                "prequential": outcome.prequential.metrics if outcome.prequential else None,
                "reason": outcome.reasons[0] if outcome.reasons else None,
            }
        )

    def _model_record(self, knowledge: Knowledge, plan: RunPlan, outcome: Outcome) -> ModelRecord:
        # What a frozen transform graph was analysed on stays the reference of its line.
        champion = plan.champion if not plan.analysis_window else None
        is_cold = (outcome.training or {}).get("initialisation") == "cold"
        base = None if is_cold else plan.champion
        return ModelRecord.model_validate(
            {
                **(outcome.model or {}),
                "version": plan.push_version,
                "run_id": plan.run_id,
                "span": plan.span.span,
                "span_version": plan.span.version,
                "statistics_uri": champion.statistics_uri if champion else outcome.window_statistics_uri,
                "transform_span": champion.transform_span if champion else plan.span.span,
                "model_shape": knowledge.shape.model_dump_json(),
                "line_length": 0 if base is None else plan.line_length,
                "base_version": base.version if base else None,
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
