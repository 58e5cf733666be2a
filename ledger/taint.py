"""What rests on a version of a span: a pure function of the ledger's rows. Nothing is read or written here."""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import LedgerError
from schemas.ledger_records import ModelRecord, RunOutcome, RunRecord, SpanRecord
from schemas.replay import Membership
from schemas.spans import SpanRef
from schemas.taint import CleanAncestor, ModelFate, Taint, TaintedBuffer, TaintedModel, TaintPath

# A thing that another was made from: its kind, and the number, URI or (span, version) that names it.
Node = tuple[str, Any]
# Returns what is in a buffer, or None where that cannot be read.
MembershipOf = Callable[[str], Membership | None]

_PATHS: dict[str, TaintPath] = {"span": "window", "model": "base", "buffer": "replay", "graph": "transform"}


# Outcomes of runs that offered their window to the replay buffer and recorded the result.
_OFFERING_OUTCOMES: frozenset[RunOutcome] = frozenset({"pushed", "rejected", "scored", "champion_moved"})


class BaseRead(BaseModel):
    """The model that a run started from, or tried to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int


class PlanReads(BaseModel):
    """The part of a run's plan that says what the run read; `pipeline.plan.RunPlan` has the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    window: tuple[SpanRef, ...] = ()
    analysis_window: tuple[SpanRef, ...] = ()
    initialisation: str = "cold"
    base: BaseRead | None = None
    transform_graph_uri: str | None = None
    replay_uri: str | None = None
    is_shadow: bool = False


@dataclass(frozen=True)
class History:
    """The ledger's rows, as far as they say what was made from what.

    Attributes:
        spans: All versions of all spans.
        runs: In the order they started.
        models: All pushed models.
        champion_version: The model that serves.
    """

    spans: Sequence[SpanRecord]
    runs: Sequence[RunRecord]
    models: Sequence[ModelRecord]
    champion_version: int | None = None

    @cached_property
    def plans(self) -> dict[str, PlanReads]:
        """What each run read, by run id, in the order they started."""
        return {run.run_id: _read_plan(run) for run in self.runs}

    @cached_property
    def models_by_version(self) -> dict[int, ModelRecord]:
        """The models, by version."""
        return {model.version: model for model in self.models}

    @cached_property
    def buffers(self) -> dict[str, str]:
        """The run that wrote each replay buffer, by the buffer's URI."""
        # Not a row's own run_id: that is the last run that moved the span, perhaps inside another span's window.
        writers = {
            (run.span, run.version): run.run_id
            for run in self.runs
            if run.outcome in _OFFERING_OUTCOMES and not self.plans[run.run_id].is_shadow
        }
        pairs = [(s.replay_uri, writers.get((s.span, s.version))) for s in self.spans]
        # A run without ReplayGen hands on the buffer that it was given.
        return {uri: run_id for uri, run_id in pairs if uri and run_id and self.plans[run_id].replay_uri != uri}

    @cached_property
    def order(self) -> dict[str, int]:
        """Position of each run among all, by run id."""
        return {run.run_id: position for position, run in enumerate(self.runs)}

    def written_at(self, buffer_uri: str) -> int:
        """Return the position of the run that wrote a buffer, or -1 where it is not known."""
        return self.order.get(self.buffers.get(buffer_uri, ""), -1)

    def plan_of(self, model: ModelRecord) -> PlanReads:
        """Return what the run that trained a model read."""
        return self.plans.get(model.run_id, PlanReads())

    def line(self, version: int | None) -> Iterable[ModelRecord]:
        """Yield a model and its ancestors, the youngest first."""
        while version is not None and version in self.models_by_version:
            model = self.models_by_version[version]
            yield model
            # Versions only grow, so that a damaged row cannot send us round in circles.
            version = model.base_version if (model.base_version or version) < version else None

    def learned_by(self, models: Iterable[ModelRecord]) -> tuple[SpanRef, ...]:
        """Return the span versions in the windows that models trained on, by span and version."""
        refs = {ref for model in models for ref in self.plan_of(model).window}
        return tuple(sorted(refs, key=lambda ref: (ref.span, ref.version, ref.digest)))


def taint_of(sources: Collection[SpanRef], history: History, membership_of: MembershipOf = lambda uri: None) -> Taint:
    """Return everything that rests on some versions of spans.

    A thing is tainted if it was made from a tainted thing; of a replay buffer its membership knows better, where that
    can be read. Time is of the order of the ledger's rows, however long the line is.

    Args:
        sources: The corrected or bad versions.
        history: The ledger's rows.
        membership_of: Looks a buffer up. It is asked only of buffers that may be tainted.
    """
    tainted = _Spread(sources, history, membership_of)
    line = list(history.line(history.champion_version))
    is_champion_tainted = bool(line) and ("model", line[0].version) in tainted.causes
    ancestor = next((model for model in line if _is_clean(model, tainted) and model.removed_at is None), None)
    since = line[: line.index(ancestor)] if ancestor else line
    return Taint(
        sources=tuple(sources),
        statistics=_statistics(sources, history),
        transform_graphs=tuple(sorted(uri for kind, uri in tainted.causes if kind == "graph")),
        replay_buffers=tuple(
            TaintedBuffer(uri=uri, is_certain=uri in tainted.certain)
            for uri in sorted((uri for kind, uri in tainted.causes if kind == "buffer"), key=history.written_at)
        ),
        models=tuple(
            _tainted_model(model, tainted.causes, history.champion_version)
            for model in sorted(history.models, key=lambda model: model.version)
            if not _is_clean(model, tainted)
        ),
        champion_version=history.champion_version,
        champion_is_tainted=is_champion_tainted,
        clean_ancestor=_with_buffer(ancestor, history, tainted) if ancestor else None,
        learned_since=history.learned_by(since),
    )


@dataclass(frozen=True)
class _Spread:
    """What is tainted, and by what.

    Attributes:
        causes: The tainted things, each with the one that tainted it; None for the sources.
        certain: Buffers whose membership says so.
    """

    sources: Collection[SpanRef]
    history: History
    membership_of: MembershipOf
    causes: dict[Node, Node | None] = field(default_factory=dict)
    certain: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Follow what read what from the sources on, the nearest first."""
        readers = _readers(self.history)
        queue = deque(self._seeds())
        self.causes.update(dict.fromkeys(queue))
        while queue:
            node = queue.popleft()
            for reader in readers[node]:
                if reader not in self.causes and not self._is_known_clean(reader):
                    self.causes[reader] = node
                    queue.append(reader)

    def _seeds(self) -> list[Node]:
        """Return the sources, and the buffers of unknown origin that were first read after a source was offered."""
        keys = {(ref.span, ref.version): None for ref in self.sources}
        plans = list(self.history.plans.values())
        offered_at = next(
            (at for at, plan in enumerate(plans) if any((ref.span, ref.version) in keys for ref in plan.window)),
            len(plans),
        )
        # The row of a span that was opened again names its last buffer alone.
        known = self.history.buffers
        late = dict.fromkeys(plan.replay_uri for plan in plans[offered_at:] if plan.replay_uri not in known)
        early = {plan.replay_uri for plan in plans[: offered_at + 1]}
        unknown: list[Node] = [("buffer", uri) for uri in late if uri and uri not in early]
        return [*(("span", key) for key in keys), *(node for node in unknown if not self._is_known_clean(node))]

    def _is_known_clean(self, node: Node) -> bool:
        kind, uri = node
        membership = self.membership_of(uri) if kind == "buffer" else None
        if membership is None:
            return False
        members = {name for split in membership.members.values() for name, count in split.items() if count}
        if members.isdisjoint(f"{ref.span}-{ref.version}" for ref in self.sources):
            return True
        self.certain.add(uri)
        return False


def _readers(history: History) -> defaultdict[Node, list[Node]]:
    """Return what was made from each thing."""
    readers: defaultdict[Node, list[Node]] = defaultdict(list)
    for model in history.models:
        plan = history.plan_of(model)
        graph: Node = ("graph", model.transform_graph_uri)
        for source in _read_by_training(model, plan):
            readers[source].append(("model", model.version))
        if plan.transform_graph_uri is None:
            for ref in plan.analysis_window:
                readers["span", (ref.span, ref.version)].append(graph)
            # A refresh grows the base's graph, by the tokens that the base counted while it trained.
            if plan.base is not None:
                readers["model", plan.base.version].append(graph)
    for uri, run_id in history.buffers.items():
        plan = history.plans[run_id]
        for ref in plan.window:
            readers["span", (ref.span, ref.version)].append(("buffer", uri))
        if plan.replay_uri:
            readers["buffer", plan.replay_uri].append(("buffer", uri))
    return readers


def _read_by_training(model: ModelRecord, plan: PlanReads) -> Iterable[Node]:
    for ref in plan.window:
        yield "span", (ref.span, ref.version)
    if model.base_version is not None:
        yield "model", model.base_version
    if plan.replay_uri and plan.initialisation != "cold":
        yield "buffer", plan.replay_uri
    yield "graph", model.transform_graph_uri


def _statistics(sources: Collection[SpanRef], history: History) -> tuple[str, ...]:
    """Return the statistics of the sources themselves and of windows that graphs were analysed on with them."""
    keys = {(ref.span, ref.version) for ref in sources}
    own = {record.statistics_uri for record in history.spans if (record.span, record.version) in keys}
    windows = {
        model.statistics_uri
        for model in history.models
        if not keys.isdisjoint((ref.span, ref.version) for ref in history.plan_of(model).analysis_window)
    }
    return tuple(sorted(uri for uri in own | windows if uri))


def _tainted_model(model: ModelRecord, causes: dict[Node, Node | None], champion_version: int | None) -> TaintedModel:
    kind, name = causes["model", model.version] or ("model", model.version)
    through = {"span": "span {0[0]} version {0[1]}", "model": "model version {0}"}.get(kind, "{0}").format(name)
    return TaintedModel(
        version=model.version,
        span=model.span,
        path=_PATHS[kind],
        through=through,
        fate=_fate(model, champion_version),
    )


def _fate(model: ModelRecord, champion_version: int | None) -> ModelFate:
    if model.removed_at is not None:
        return "removed"
    if champion_version is None or model.version > champion_version:
        return "hidden"
    return "serving" if model.version == champion_version else "kept"


def _is_clean(model: ModelRecord, tainted: _Spread) -> bool:
    return ("model", model.version) not in tainted.causes


def _with_buffer(ancestor: ModelRecord, history: History, tainted: _Spread) -> CleanAncestor:
    """Add the newest clean buffer that was written up to the ancestor's run."""
    until = history.order.get(ancestor.run_id, -1)
    clean = [uri for uri in history.buffers if ("buffer", uri) not in tainted.causes]
    newest = max((uri for uri in clean if history.written_at(uri) <= until), key=history.written_at, default=None)
    return CleanAncestor(model=ancestor, replay_uri=newest)


def _read_plan(run: RunRecord) -> PlanReads:
    try:
        return PlanReads.model_validate_json(run.plan)
    except ValidationError as error:
        raise LedgerError(
            f"The plan of run {run.run_id!r} cannot be read. Expected a JSON document with windows of spans; received "
            f"{error.errors()[0]['msg']!r}. Restore the ledger from a copy; without the plan nobody can say what the "
            "run learned from."
        ) from error
