"""Which run is next: look for spans, finish what a dead worker left, plan, run, try again. One at a time."""

from collections.abc import Iterator
from dataclasses import replace

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from core.clock import Clock, SystemClock
from core.errors import LeaseHeldError, LeaseLostError, PipelineError, StoppedError, UnavailableError
from core.files import write_text_atomically
from ledger.ledger import Ledger
from ledger.planning import SHADOW_TRIGGER
from pipeline.arrivals import Discovery
from pipeline.attempts import Attempts
from pipeline.config import Config
from pipeline.corrections import find_repair, pending_repairs
from pipeline.cycle import STAGES, Cycle, Dag, Listeners, read_decision_of
from pipeline.dags import make_dag
from pipeline.decision import Decision
from pipeline.knowledge import check_any_span, read_knowledge
from pipeline.memory import release_memory
from pipeline.plan import (
    Request,
    RunPlan,
    Skip,
    next_span,
    plan_judgement,
    plan_run,
    planned_span,
    shadow_is_due,
)
from pipeline.preflight import check_config, check_engine
from pipeline.registry import serve_champion
from pipeline.repair import joined
from schemas.ledger_records import RunOutcome, RunRecord, RunStart
from schemas.spans import SpanRef
from schemas.verdicts import Verdict

CORRECTION_TRIGGER = "correction"
JUDGE_AGAIN_TRIGGER = "champion_moved"
# A champion that moves more often than this while one candidate is judged is moved by hand, and shall stay.
MAX_JUDGEMENTS = 3


class Controller:
    """Runs cycles of one pipeline, one after another. The ledger's lease is the caller's to take.

    Args:
        config: The pipeline's config.
        ledger: Its ledger.
        dag: What runs a plan; None: what the config's runner stands for.
        listeners: Who is told of plans, nodes and steps, and who may stop the cycle.
        clock: Where the time comes from.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        *,
        dag: Dag | None = None,
        listeners: Listeners | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.listeners = listeners or Listeners()
        self._ledger = ledger
        self._dag = dag or make_dag(config, clock=self.clock)
        self._cycle = Cycle(config, ledger, self._dag, self.listeners, self.clock)
        self._discovery = Discovery(config, clock=self.clock)
        self._attempts = Attempts(ledger, config.runs_path)

    def run_next(self) -> Decision | Skip:
        """Finish what a dead worker left, or run the cycle of the next span that is due, or say why none is."""
        unusable = self._look()
        if (finished := self.resume()) is not None:
            return finished
        knowledge = read_knowledge(self._ledger, self.config, unusable=unusable)
        due = next_span(knowledge, self.config.window, deferred=self.deferred_spans())
        return due if isinstance(due, Skip) else self._run(Request(due, "next", self.clock.now()))

    def run_span(self, span: int) -> Decision | Skip:
        """Run the cycle of the latest version of a span, or say that it is done.

        Raises:
            DataError: there is no such span.
        """
        unusable = self._look()
        finished = self.resume()
        if finished is not None and finished.plan.span.span == span:
            return finished
        knowledge = read_knowledge(self._ledger, self.config, span=span, unusable=unusable)
        ref = planned_span(knowledge, span)
        if isinstance(ref, Skip):
            return ref
        return self._run(Request(ref, "manual", self.clock.now()))

    def run_spans(self, first: int, last: int) -> Iterator[Decision | Skip]:
        """Run the cycles of all spans from `first` to `last`, both included, in order."""
        for span in range(first, last + 1):
            if span > first:
                release_memory()
            yield self.run_span(span)

    def run_request(self, request: Request) -> Decision | Skip:
        """Run the cycle that somebody else decided on; what a dead worker left is finished first.

        Args:
            request: What is asked; its time and version are filled in here.
        """
        finished = self.resume()
        if finished is not None and finished.plan.span == request.span:
            return finished
        return self._run(request)

    def resume(self) -> Decision | None:
        """Finish the run that a dead worker left open, if there is one and it still makes sense.

        Returns:
            Its decision; None if there was nothing to finish, or it was given up.
        """
        # First of all, whether anything is due or not: what serves matters more than what will.
        self.reconcile_serving()
        run = self._ledger.open_run()
        if run is None:
            return self._resume_judgement()
        if (why_not := self._why_not_resumed(run)) is not None:
            self.abandon(run.run_id, why_not)
            return self.resume()
        self._attempts.settle(run.run_id)
        run = self._ledger.run(run.run_id)
        if run.attempts >= self.config.retries.max_attempts:
            why = f"The worker died in {run.attempts} attempts without getting any further."
            self._give_up(run, "quarantined", why)
            self._cycle.failed(_plan_of(run), "quarantined", why)
            return self.resume()
        return self._follow(self._execute(_plan_of(run), is_resumed=True))

    def deferred_spans(self) -> frozenset[SpanRef]:
        """Return the corrections that wait for the next cycle of another span; those to be ignored are skipped here."""
        repairs = pending_repairs(self._ledger, self.config)
        for repair in repairs:
            if repair.kind == "ignore":
                self._ledger.move_span(repair.correction, "skipped", reason=repair.why)
        return frozenset(repair.correction for repair in repairs if not repair.has_own_cycle)

    def abandon(self, run_id: str, why: str) -> None:
        """Close an open run that nobody goes on with: end what it left running, and let its span wait again.

        Each step may be the last before a crash: the run itself is closed last, so until then it is found open again.

        Args:
            run_id: The run; its cycle no longer runs in this process.
            why: One sentence, kept with the run and with the span.
        """
        run = self._ledger.run(run_id)
        self._give_up(run, "abandoned", why)
        # Without a decision record: the plan may be of a time whose words this code does not know.
        self._ledger.finish_run(run_id, "abandoned", error=why)

    def reconcile_serving(self) -> None:
        """Make the served folder show the champion, whatever happened to it."""
        serve_champion(self.config, self._ledger)

    def _look(self) -> dict[int, str]:
        """Register what has arrived, and return why a span's folder cannot be used."""
        unusable = self._discovery.register(self._ledger).unusable
        check_any_span(self._ledger, self.config, unusable)
        return unusable

    def _run(self, request: Request) -> Decision | Skip:
        check_config(self.config)
        check_engine(self.config)
        repaired = self._with_repair(request)
        return repaired if isinstance(repaired, Skip) else self._follow(self._attempt(repaired))

    def _with_repair(self, request: Request) -> Request | Skip:
        """Add to a request what corrections of earlier spans ask for, unless somebody decided that already."""
        if request.repair is not None or request.is_shadow or request.action == "score":
            return request
        repairs = pending_repairs(self._ledger, self.config)
        own = next((repair for repair in repairs if repair.correction == request.span), None)
        if own is None:
            return replace(request, repair=joined(repairs))
        if not own.has_own_cycle:
            self.deferred_spans()
            return Skip(reason=own.why, span=own.correction)
        return replace(request, trigger=CORRECTION_TRIGGER, repair=own.request, force_cold=own.force_cold)

    def _follow(self, decision: Decision) -> Decision:
        """Do what an outcome leads to: a cold run after drift, another judgement, a shadow model that is due."""
        num_judgements = 0
        while True:
            if decision.outcome == "cold_start":
                decision = self._attempt(self._cold_request(decision))
            elif decision.outcome == "champion_moved" and num_judgements < MAX_JUDGEMENTS:
                num_judgements += 1
                decision = self._judge_again(decision)
            else:
                return self._with_shadow(decision)

    def _cold_request(self, decision: Decision) -> Request:
        """Return what is asked after drift that no warm start may follow; a repair learns the newest spans then."""
        ref, why = decision.plan.span, _drift_sentences(decision)
        if decision.plan.trigger == CORRECTION_TRIGGER:
            corrections = self.config.corrections.model_copy(update={"repair": "cold_start"})
            config = self.config.model_copy(update={"corrections": corrections})
            if (repair := find_repair(self._ledger, config, ref)) is not None:
                return Request(ref, CORRECTION_TRIGGER, self.clock.now(), force_cold=why, repair=repair.request)
        return Request(ref, "drift", self.clock.now(), force_cold=why)

    def _with_shadow(self, decision: Decision) -> Decision:
        """Train the shadow model after the cycle of a span, if it is due, and put its decision inside the cycle's."""
        ref = decision.plan.span
        if self.config.window.shadow_every_spans is None or decision.outcome == "blocked" or decision.plan.is_shadow:
            return decision
        knowledge = read_knowledge(self._ledger, self.config, span=ref.span)
        if not shadow_is_due(knowledge, ref.span, self.config.window):
            return decision
        age_spans = ref.span - (knowledge.last_full_training_span or 0)
        why = f"the last full training was {age_spans} spans ago; this one is a shadow model."
        request = Request(ref, SHADOW_TRIGGER, self.clock.now(), force_cold=why, is_shadow=True)
        shadow = self._attempt(request)
        return decision.model_copy(update={"shadow": shadow})

    def _attempt(self, request: Request) -> Decision:
        knowledge = read_knowledge(self._ledger, self.config, span=request.span.span)
        request = replace(request, now=self.clock.now())
        plan = plan_run(knowledge, request, self.config.window, initialisation=self.config.training.initialisation)
        if (failed := self._failed_before(plan)) is not None:
            self._ledger.reopen_run(failed.run_id)
            return self._execute(_plan_of(failed), is_resumed=True)
        return self._start(plan)

    def _start(self, plan: RunPlan) -> Decision:
        plan = plan.numbered(self._ledger.reserve_version())
        folder = self.config.runs_path / plan.run_id
        write_text_atomically(folder / "config.json", self.config.model_dump_json(indent=1))
        self._ledger.start_run(
            RunStart(
                run_id=plan.run_id,
                span=plan.span.span,
                version=plan.span.version,
                trigger=plan.trigger,
                plan=plan.model_dump_json(),
                config_digest=self.config.digest,
                code_digest=self._dag.code_digest,
            )
        )
        return self._execute(plan)

    def _execute(self, plan: RunPlan, *, is_resumed: bool = False) -> Decision:
        """Run a plan; what may pass by itself is tried again after a while."""
        options = self.config.retries
        for attempt in Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_exponential(multiplier=options.backoff_seconds, max=options.max_backoff_seconds),
            stop=stop_after_attempt(options.max_attempts),
            sleep=self._wait,
            reraise=True,
        ):
            with attempt:
                is_again = is_resumed or attempt.retry_state.attempt_number > 1
                return self._try(plan, is_resumed=is_again)
        raise RuntimeError("tenacity ended without a result or an exception")

    def _wait(self, seconds: float) -> None:
        self.clock.wait(self.listeners.stop, seconds)

    def _try(self, plan: RunPlan, *, is_resumed: bool) -> Decision:
        attempts = self._attempts.start(plan.run_id)
        try:
            return self._cycle.run(plan, is_resumed=is_resumed)
        except LeaseLostError:
            raise
        except UnavailableError as error:
            # The run stays open. A process that died counts, as this one would; what is nobody's fault does not.
            if not error.blames_span:
                self._attempts.forgive(plan.run_id)
            raise
        except PipelineError as error:
            self._record_failure(plan, attempts, error)
            raise

    def _record_failure(self, plan: RunPlan, attempts: int, error: PipelineError) -> None:
        text = f"{error.headline}: {error}"
        is_poisoned = error.blames_span and attempts >= self.config.retries.max_attempts
        if not error.blames_span:
            self._attempts.forgive(plan.run_id)
        outcome: RunOutcome = "quarantined" if is_poisoned else "failed"
        # The span first: while the run is open, whoever comes after a kill in between does it again.
        self._put_back(self._ledger.run(plan.run_id), outcome, text)
        self._cycle.failed(plan, outcome, text)

    def _give_up(self, run: RunRecord, outcome: RunOutcome, why: str) -> None:
        """Clear up behind a dead worker whose run nobody goes on with; the run itself is closed last, by the caller."""
        self._dag.give_up(run.run_id, self._ledger.fenced)
        self._put_back(run, outcome, why)

    def _put_back(self, run: RunRecord, outcome: RunOutcome, why: str) -> None:
        """Let a span wait again after a run that is given up, or lock it away if it is to blame."""
        if run.trigger == SHADOW_TRIGGER:
            return
        for record in self._ledger.versions_of(run.span):
            if record.version == run.version and record.state in STAGES:
                if outcome == "quarantined":
                    self._ledger.move_span(record.ref, "quarantined", run_id=run.run_id, reason=why)
                elif record.state != "arrived":
                    self._ledger.move_span(record.ref, "arrived", run_id=run.run_id, reason=why)

    def _failed_before(self, plan: RunPlan) -> RunRecord | None:
        """Return the last run of the span if it failed at the very same work, so that this one can go on there."""
        run = self._ledger.latest_run(plan.span)
        if run is None or run.outcome != "failed" or self._changed_since(run) is not None:
            return None
        return run if _plan_of(run).digest == plan.digest else None

    def _why_not_resumed(self, run: RunRecord) -> str | None:
        if any(model.run_id == run.run_id for model in self._ledger.models()):
            # Its candidate may serve already: whatever changed, that must be recorded to the end.
            return None
        if (changed := self._changed_since(run)) is not None:
            return changed
        states = {record.version: record.state for record in self._ledger.versions_of(run.span)}
        if states.get(run.version) == "superseded":
            return f"A corrected version of span {run.span} arrived."
        return None

    def _changed_since(self, run: RunRecord) -> str | None:
        if run.config_digest != self.config.digest:
            return "The config has changed since the run began."
        return None if run.code_digest == self._dag.code_digest else "The code has changed since the run began."

    def _resume_judgement(self) -> Decision | None:
        """Judge a candidate again whose worker died after it found that the champion had moved."""
        newest = next(iter(self._ledger.runs(limit=1)), None)
        if newest is None or newest.outcome != "champion_moved":
            return None
        return self._follow(self._judge_again(read_decision_of(self._ledger, newest.run_id)))

    def _judge_again(self, decision: Decision) -> Decision:
        plan = decision.plan
        # A decision of an older release does not say where its model is, but what ran does.
        model = decision.model or self._dag.outcome(plan, first_version=None, trained=None).model or {}
        candidate_uri = plan.candidate_uri or model["model_uri"]
        request = Request(plan.span, JUDGE_AGAIN_TRIGGER, self.clock.now())
        champion = self._ledger.champion()
        return self._start(plan_judgement(plan, request, champion=champion, candidate_uri=candidate_uri))


def _plan_of(run: RunRecord) -> RunPlan:
    return RunPlan.model_validate_json(run.plan)


def _drift_sentences(decision: Decision) -> str:
    findings = [] if decision.drift is None else decision.drift.findings
    return " ".join(f.sentence for f in findings if f.verdict == Verdict.COLD_START.word) or "drift"


def _may_pass(error: BaseException) -> bool:
    """Tell whether waiting helps: not where a person asked to stop, or another worker is at it."""
    return isinstance(error, UnavailableError) and not isinstance(error, StoppedError | LeaseHeldError)
