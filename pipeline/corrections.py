"""Which repair a corrected span is due for: reads what `ledger.taint` and `pipeline.repair` decide by."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from core.errors import DataError, LedgerError
from ingest.changes import Change, change_between
from ledger.ledger import Ledger
from ledger.taint import History, taint_of
from pipeline.config import Config
from pipeline.knowledge import is_there
from pipeline.plan import UNUSABLE_STATES
from pipeline.promotion import newest_span
from pipeline.repair import ChosenRepair, choose_repair
from schemas.base import Record
from schemas.ledger_records import SpanRecord
from schemas.replay import MEMBERSHIP_FILE, Membership
from schemas.spans import SpanRef
from schemas.taint import Taint

# Waiting corrections that are looked at, the oldest spans first; the others have their turn when these are done.
MAX_WAITING_CORRECTIONS = 100


class TaintReport(Record):
    """What `perennial lineage taint` prints.

    Attributes:
        repair: What the policy picks; None where nothing is to be repaired.
        advice: The same in words, or why there is none.
    """

    taint: Taint
    repair: ChosenRepair | None
    advice: str


def pending_repairs(ledger: Ledger, config: Config) -> tuple[ChosenRepair, ...]:
    """Return the repairs that the waiting corrections of what the champion learned from are due for, oldest first.

    Without a correction it costs two queries. A `replay` waits for the next cycle of another span.
    """
    champion = ledger.champion()
    if champion is None:
        return ()
    # A span beyond the newest that the champion learned from waits for its own cycle anyway.
    waiting = ledger.open_corrections(last=newest_span(champion), limit=MAX_WAITING_CORRECTIONS)
    return _repairs(ledger, config, [record.ref for record in waiting])


def find_repair(ledger: Ledger, config: Config, ref: SpanRef) -> ChosenRepair | None:
    """Return the repair that a version of a span is due for; None if it corrects nothing that the champion learned."""
    return next(iter(_repairs(ledger, config, [ref])), None)


def _repairs(ledger: Ledger, config: Config, refs: Sequence[SpanRef]) -> tuple[ChosenRepair, ...]:
    before = {ref: [row.ref for row in ledger.versions_of(ref.span) if row.version < ref.version] for ref in refs}
    corrections = [ref for ref in refs if before[ref]]
    if not corrections:
        return ()
    history = read_history(ledger)
    taints = {ref: taint_of(before[ref], history, read_membership) for ref in corrections}
    found = (repair_for(taint, history, config, ref) for ref, taint in taints.items())
    return tuple(repair for repair in found if repair is not None)


def repair_for(taint: Taint, history: History, config: Config, correction: SpanRef) -> ChosenRepair | None:
    """Return the repair of what rests on the versions before a correction.

    Args:
        taint: What rests on them.
        history: The ledger's rows.
        config: The pipeline's config.
        correction: The corrected version. Where it is among the taint's own sources, none has come yet: then the answer
            is what would be done about one that changes everything.
    """
    if not taint.champion_is_tainted:
        return None
    return choose_repair(
        _without_ghosts(taint),
        _change(taint, history, config.spans_path, correction),
        config.corrections,
        correction=correction,
        usable=_usable(history, config.spans_path),
        cold_spans=config.window.cold_spans,
    )


def taint_report(ledger: Ledger, config: Config, span: int, version: int | None = None) -> TaintReport:
    """Return what rests on a span, and what would be done about it.

    Args:
        ledger: The pipeline's ledger; nothing else has to be there, but what is says more.
        config: The pipeline's config.
        span: The span.
        version: The version that is bad; None: all that were corrected, or the only one.

    Raises:
        LedgerError: there is no such span or version.
    """
    versions = ledger.versions_of(span)
    chosen = [row for row in versions if version is None or row.version == version]
    if not chosen:
        known = [row.version for row in versions]
        expected = f"one of its versions {known}" if known else "a span that has arrived"
        raise LedgerError(
            f"Span {span}{'' if version is None else f' version {version}'} is not in the ledger of "
            f"{config.name!r}. Expected {expected}. Look at `perennial status`."
        )
    newest = versions[-1]
    sources = [row.ref for row in chosen if version is not None or row is not newest] or [newest.ref]
    history = read_history(ledger)
    taint = taint_of(sources, history, read_membership)
    is_waiting = newest.ref in sources or newest.state == "arrived"
    repair = repair_for(taint, history, config, newest.ref) if is_waiting else None
    return TaintReport(taint=taint, repair=repair, advice=_advice(taint, newest, repair))


def _advice(taint: Taint, newest: SpanRecord, repair: ChosenRepair | None) -> str:
    if not taint.champion_is_tainted:
        return "None is needed: the champion has learned nothing from it."
    if repair is None:
        return f"None is due: version {newest.version} is {newest.state}. {newest.reason or ''}".strip()
    if newest.ref in taint.sources:
        return f"No correction has arrived. One that changed everything would lead to {repair.kind}."
    return f"{repair.kind}. {repair.why}"


def read_history(ledger: Ledger) -> History:
    """Return the ledger's rows, as far as they say what was made from what."""
    champion = ledger.champion()
    return History(ledger.spans(), ledger.runs(), ledger.models(), champion.version if champion else None)


def read_membership(uri: str) -> Membership | None:
    """Return what is in a replay buffer, or None where its folder is gone or damaged."""
    try:
        return Membership.model_validate_json((Path(uri) / MEMBERSHIP_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _without_ghosts(taint: Taint) -> Taint:
    """Forget a buffer that garbage collection has removed: a rerun without one starts an empty one."""
    ancestor = taint.clean_ancestor
    if ancestor is None or ancestor.replay_uri is None or is_there(ancestor.replay_uri):
        return taint
    return taint.model_copy(update={"clean_ancestor": ancestor.model_copy(update={"replay_uri": None})})


def _change(taint: Taint, history: History, spans_root: Path, correction: SpanRef) -> Change | None:
    """Compare the correction with the newest version before it that the champion's line trained on."""
    if correction in taint.sources:
        return None
    learned = set(history.learned_by(history.line(history.champion_version))) & set(taint.sources)
    before = max(learned or taint.sources, key=lambda ref: ref.version)
    try:
        return _change_between(spans_root, before, correction)
    except DataError:
        # A version whose files are gone or damaged says nothing, and the repair must not depend on luck.
        return None


# Versions never change, and a correction that waits for the next cycle is asked about at every look.
_change_between = lru_cache(maxsize=64)(change_between)


def _usable(history: History, spans_root: Path) -> dict[int, SpanRef]:
    """Return the newest usable version of every span up to the newest that the champion learned from."""
    champion = history.models_by_version.get(history.champion_version or 0)
    last = -1 if champion is None else newest_span(champion)
    newest: dict[int, SpanRef] = {}
    for record in sorted(history.spans, key=lambda record: (record.span, record.version)):
        is_there = record.span <= last and record.state not in UNUSABLE_STATES
        if is_there and record.ref.folder(spans_root).is_dir():
            newest[record.span] = record.ref
    return newest
