"""What a corrected span that the champion learned from leads to: the cheapest repair that is enough. Pure."""

from collections.abc import Mapping, Sequence

from ingest.changes import Change
from pipeline.plan import RepairRequest
from pipeline.policies import CorrectionOptions
from pipeline.policies import Repair as RepairKind
from schemas.base import Record
from schemas.spans import SpanRef
from schemas.taint import Taint


class ChosenRepair(Record):
    """A repair, and what it changes in a plan.

    Attributes:
        kind: `ignore`: the correction is skipped with a note. `replay`: it joins the window of the next cycle.
            `rerun`: a cycle of its own, warm from the last clean ancestor, learns it and all that was learned since.
            `cold_start`: a cycle of its own learns it and the newest spans from nothing.
        correction: The corrected span.
        request: What the plan of a cycle is told; None for `ignore`.
        force_cold: Why that cycle starts cold; None unless it does.
        why: One sentence for a reader.
    """

    kind: RepairKind
    correction: SpanRef
    request: RepairRequest | None = None
    force_cold: str | None = None
    why: str

    @property
    def has_own_cycle(self) -> bool:
        """Whether the repair is a cycle of the corrected span, and not part of another or none."""
        return self.kind in ("rerun", "cold_start")


def choose_repair(
    taint: Taint,
    change: Change | None,
    options: CorrectionOptions,
    *,
    correction: SpanRef,
    usable: Mapping[int, SpanRef],
    cold_spans: int,
) -> ChosenRepair | None:
    """Return the repair that the options ask for; for `auto` the cheapest one that is enough.

    Whatever it is, the gate still decides whether its candidate replaces the champion.

    Args:
        taint: What rests on the versions before.
        change: What the correction changed; None where that cannot be told, which counts as everything.
        options: The policy.
        correction: The corrected span.
        usable: Newest usable version of every span that the champion may have learned from, by span.
        cold_spans: Spans in the window of a cold start.

    Returns:
        None if the champion has learned nothing from the versions before: then there is nothing to repair, and the
        correction is planned like any span that came late.
    """
    if not taint.champion_is_tainted:
        return None
    current = {**usable, correction.span: correction}
    again = _with_last({ref.span for ref in taint.learned_since}, current, correction)
    kind, because = _kind(taint, 1.0 if change is None else change.share, options, num_again=len(again))
    what = _what_changed(correction, change)
    if kind == "ignore":
        return ChosenRepair(kind=kind, correction=correction, why=f"{what} Nothing is trained again: {because}.")
    if kind == "replay":
        why = f"{what} The next cycle learns the correction too: {because}."
        request = RepairRequest(corrections=(correction,), why=why)
        return ChosenRepair(kind=kind, correction=correction, request=request, why=why)
    if kind == "rerun" and taint.clean_ancestor is not None:
        base = taint.clean_ancestor.model
        why = f"{what} A run from version {base.version}, the last clean ancestor, learns {_spans(again)}: {because}."
        request = RepairRequest(base=base, window=again, replay_uri=taint.clean_ancestor.replay_uri, why=why)
        return ChosenRepair(kind=kind, correction=correction, request=request, why=why)
    others = sorted(current.keys() - {correction.span})
    window = _with_last(set(others[max(0, len(others) - cold_spans + 1) :]), current, correction)
    why = f"{what} A cold start learns {_spans(window)}: {because}."
    request = RepairRequest(window=window, why=why)
    return ChosenRepair(kind="cold_start", correction=correction, request=request, force_cold=why, why=why)


def joined(repairs: Sequence[ChosenRepair]) -> RepairRequest | None:
    """Return what the next cycle is told of all corrections that wait to be replayed in it, or None without any."""
    waiting = [repair for repair in repairs if repair.kind == "replay"]
    if not waiting:
        return None
    return RepairRequest(
        corrections=tuple(repair.correction for repair in waiting), why=" ".join(repair.why for repair in waiting)
    )


def _kind(taint: Taint, share: float, options: CorrectionOptions, *, num_again: int) -> tuple[RepairKind, str]:
    """Return the repair and the rest of the sentence that says why it is this one."""
    asked = f"corrections.repair is {options.repair}"
    if options.repair == "auto":
        if share <= options.ignore_below:
            return "ignore", f"corrections.ignore_below is {options.ignore_below:.2%}"
        if share <= options.replay_below:
            return "replay", f"corrections.replay_below is {options.replay_below:.2%}"
    elif options.repair != "rerun":
        return options.repair, asked
    if taint.clean_ancestor is None:
        return "cold_start", "no ancestor of the champion is clean"
    if options.repair == "rerun":
        return "rerun", asked
    bound = f"corrections.max_rerun_spans is {options.max_rerun_spans}"
    if num_again > options.max_rerun_spans:
        return "cold_start", f"{num_again} spans would have to be learned again, and {bound}"
    return "rerun", f"{len(taint.learned_since)} learned since, and {bound}"


def _with_last(spans: set[int], current: Mapping[int, SpanRef], last: SpanRef) -> tuple[SpanRef, ...]:
    """Return spans in their newest version, oldest first, with the one whose cycle it is at the end."""
    return (*(current[span] for span in sorted(spans - {last.span}) if span in current), last)


def _what_changed(correction: SpanRef, change: Change | None) -> str:
    name = f"Span {correction.span} version {correction.version}"
    if change is None:
        return f"{name} corrects what the champion learned from, and how much it changes cannot be told."
    return (
        f"{name} changes {change.share:.2%} of what the champion learned from ({change.num_added:,} examples added, "
        f"{change.num_removed:,} removed of {change.num_before:,})."
    )


def _spans(refs: Sequence[SpanRef]) -> str:
    numbers = sorted(ref.span for ref in refs)
    if len(numbers) == 1:
        return f"span {numbers[0]}"
    is_run = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"spans {numbers[0]}..{numbers[-1]}" if is_run else f"spans {', '.join(map(str, numbers))}"
