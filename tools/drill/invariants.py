"""What must hold of a pipeline whatever was done to its workers: pure functions of what they left.

Each returns a sentence per violation and nothing where all is well. `ALONE` are checked on one pipeline, `AS_TWIN`
against a twin that ran over the same spans undisturbed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

from schemas.ledger_records import TRANSITIONS, SpanState, Transition
from tools.drill.facts import Facts
from tools.drill.points import Point
from tools.drill.watcher import ServingWatcher

# A resumed run ends with the weights of an undisturbed one, up to the order in which threads add float32 numbers.
MAX_PREDICTION_DIFFERENCE = 1e-6
# States in which no cycle has more to do with a span.
_FINAL: frozenset[SpanState] = frozenset(
    {"trained", "pushed", "rejected", "blocked", "quarantined", "skipped", "superseded"}
)
# What names a run, a moment or a place, and so differs between twins; everything else must be equal. A SavedModel has a
# random fingerprint inside, so digests of models and graphs differ too: `predictions` compares what they compute.
_UNEQUAL_KEYS = frozenset({"run_id", "created_at", "uri", "version"})
# The lease is its successor's to change, and leftovers on disk are another invariant's.
_NOT_WRITTEN = frozenset({"lease", "temporaries"})
_MODEL_KEYS = frozenset({"base_models", "transform_graph"})


def no_run_is_open(facts: Facts) -> list[str]:
    """Every run has an outcome."""
    return [f"Run {run.run_id} is still open." for run in facts.runs if run.outcome is None]


def all_spans_are_done(facts: Facts) -> list[str]:
    """No span waits or is stuck half-way."""
    return [f"Span {row.span} is still {row.state}." for row in facts.spans if row.state not in _FINAL]


def nobody_holds_the_lease(facts: Facts) -> list[str]:
    """The last worker gave the lease back."""
    holder = facts.lease.holder if facts.lease else None
    return [f"{holder} still holds the lease."] if holder else []


def no_execution_is_running(facts: Facts) -> list[str]:
    """ML Metadata has no execution that nobody will ever finish."""
    unfinished = [e for e in facts.executions if e.state in ("NEW", "RUNNING")]
    return [f"Node {e.node_id} of run {e.run_id} is still {e.state}." for e in unfinished]


def every_node_completed_once(facts: Facts) -> list[str]:
    """No node of a run succeeded twice."""
    counts = Counter((e.run_id, e.node_id) for e in facts.executions if e.state == "COMPLETE")
    return [f"Node {node} of run {run} completed {n} times." for (run, node), n in counts.items() if n != 1]


def every_span_is_trained_once(facts: Facts) -> list[str]:
    """No two runs trained on the same version of a span, a shadow model's apart."""
    spans = {run.run_id: (run.span, run.version) for run in facts.runs if run.trigger != "shadow"}
    trained = [e.run_id for e in facts.executions if (e.node_id, e.state) == ("Trainer", "COMPLETE")]
    counts = Counter(spans[run_id] for run_id in trained if run_id in spans)
    return [
        f"Span {span} version {version} was trained on {n} times." for (span, version), n in counts.items() if n > 1
    ]


def versions_are_unique(facts: Facts) -> list[str]:
    """No version and no run has two models."""
    versions = Counter(model.version for model in facts.models)
    runs = Counter(model.run_id for model in facts.models)
    return [
        *(f"Version {version} was recorded {n} times." for version, n in versions.items() if n > 1),
        *(f"Run {run_id} recorded {n} models." for run_id, n in runs.items() if n > 1),
    ]


def champion_moves_are_a_chain(facts: Facts) -> list[str]:
    """Every move starts where the last one ended, and the pointer is where the last one put it."""
    broken = []
    for before, after in pairwise([None, *facts.moves]):
        expected = before.version if before else None
        if after is not None and after.previous != expected:
            broken.append(f"The champion moved from {after.previous} to {after.version}, but was {expected}.")
    last = facts.moves[-1].version if facts.moves else None
    if last != facts.champion:
        broken.append(f"The champion is {facts.champion}, but was last moved to {last}.")
    promoted = Counter(move.version for move in facts.moves if move.by == "cycle")
    return [*broken, *(f"A cycle promoted version {v} {n} times." for v, n in promoted.items() if n > 1)]


def highest_visible_is_champion(facts: Facts) -> list[str]:
    """What TensorFlow Serving picks is what the ledger says serves."""
    highest = facts.visible[-1] if facts.visible else None
    return [f"Serving shows {highest}, the champion is {facts.champion}."] if highest != facts.champion else []


def transitions_are_legal(facts: Facts) -> list[str]:
    """Every span went from its arrival to its state in steps that the table of transitions has."""
    paths: dict[tuple[int, int, str], list[Transition]] = defaultdict(list)
    for step in facts.transitions:
        paths[step.span, step.version, step.digest].append(step)
    states = {(row.span, row.version, row.digest): row.state for row in facts.spans}
    wrong = [f"Span {key[0]} version {key[1]} has no transitions." for key in states.keys() - paths.keys()]
    for (span, version, digest), path in paths.items():
        wrong += [f"Span {span} version {version}: {problem}" for problem in _problems(path)]
        if path[-1].to_state != states.get((span, version, digest)):
            wrong.append(f"Span {span} version {version} is {states.get((span, version, digest))}, not its last step.")
    return wrong


def _problems(path: Sequence[Transition]) -> Iterable[str]:
    if path[0].from_state is not None:
        yield f"it begins in {path[0].from_state}, not with its arrival."
    for before, after in pairwise(path):
        if after.from_state != before.to_state:
            yield f"it left {after.from_state}, but was {before.to_state}."
        elif after.to_state not in TRANSITIONS[before.to_state]:
            yield f"it went from {after.from_state} to {after.to_state}, which is no legal step."


def every_run_has_a_decision_record(facts: Facts) -> list[str]:
    """Every run says what it did and why, one that was given up as well."""
    return [f"Run {r.run_id} ({r.outcome}) has no record." for r in facts.runs if r.run_id not in facts.decisions]


def no_temporary_is_left(facts: Facts) -> list[str]:
    """What killed workers had half written is gone."""
    return [f"{path} is left." for path in facts.temporaries]


def same_states(facts: Facts, twin: Facts) -> list[str]:
    """Every span ended as its twin did."""
    ours, theirs = _states(facts), _states(twin)
    return [
        f"Span {span} version {version} is {ours.get((span, version))}; the twin's is {theirs.get((span, version))}."
        for span, version in sorted(ours.keys() | theirs.keys())
        if ours.get((span, version)) != theirs.get((span, version))
    ]


def same_models(facts: Facts, twin: Facts) -> list[str]:
    """As many models, each from the same span and from the same base."""
    ours, theirs = _family(facts), _family(twin)
    return [f"Models (span, base by rank) are {ours}; the twin's are {theirs}."] if ours != theirs else []


def same_executions(facts: Facts, twin: Facts) -> list[str]:
    """Every node completed as often, span by span."""
    ours, theirs = _completed(facts), _completed(twin)
    return [
        f"Node {node} completed {ours[span, node]} times for span {span}; the twin's {theirs[span, node]} times."
        for span, node in sorted(ours.keys() | theirs.keys())
        if ours[span, node] != theirs[span, node]
    ]


def same_predictions(facts: Facts, twin: Facts) -> list[str]:
    """The served model predicts the same within `MAX_PREDICTION_DIFFERENCE`."""
    if len(facts.predictions) != len(twin.predictions):
        return [f"There are {len(facts.predictions)} predictions; the twin has {len(twin.predictions)}."]
    pairs = zip(facts.predictions, twin.predictions, strict=True)
    differences = [abs(ours - theirs) for ours, theirs in pairs]
    # Put so that NaN, which compares as false with everything, counts as different.
    different = [found for found in differences if not found <= MAX_PREDICTION_DIFFERENCE]
    if not different:
        return []
    return [f"{len(different)} predictions differ by more than {MAX_PREDICTION_DIFFERENCE:g}, e.g. {max(different):g}."]


def same_lineage(facts: Facts, twin: Facts) -> list[str]:
    """ML Metadata tells the same of the champion, ids, times and places apart."""
    ours, theirs = normalised(facts.lineage), normalised(twin.lineage)
    keys = sorted(set(ours) | set(theirs))
    return [
        f"Lineage {key} is {ours.get(key)!r}; the twin's is {theirs.get(key)!r}."
        for key in keys
        if not _are_same(ours.get(key), theirs.get(key))
    ]


def _are_same(ours: Any, theirs: Any) -> bool:
    """Compare documents; metrics are means of predictions, so they may differ as those may."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_are_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_are_same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=MAX_PREDICTION_DIFFERENCE, abs_tol=MAX_PREDICTION_DIFFERENCE)
    return bool(ours == theirs)


def normalised(lineage: dict[str, Any] | None) -> dict[str, Any]:
    """Return a lineage document without what names a run, a moment or a place."""
    kept = {key: _without_names(value, key) for key, value in (lineage or {}).items()}
    return {key: value for key, value in kept.items() if key not in _UNEQUAL_KEYS | {"digest"}}


def _without_names(value: Any, key: str) -> Any:
    if key == "spans":
        # The version of a span is its own, and its digest that of its data.
        return value
    if isinstance(value, dict):
        dropped = _UNEQUAL_KEYS | ({"digest"} if key in _MODEL_KEYS else set())
        return {name: _without_names(inner, key) for name, inner in value.items() if name not in dropped}
    return [_without_names(inner, key) for inner in value] if isinstance(value, list) else value


def _states(facts: Facts) -> dict[tuple[int, int], SpanState]:
    return {(row.span, row.version): row.state for row in facts.spans}


def _family(facts: Facts) -> list[tuple[int, int | None]]:
    rank = {model.version: place for place, model in enumerate(facts.models)}
    return [(m.span, None if m.base_version is None else rank.get(m.base_version)) for m in facts.models]


def _completed(facts: Facts) -> Counter[tuple[int, str]]:
    spans = {run.run_id: run.span for run in facts.runs}
    return Counter(
        (spans[e.run_id], e.node_id) for e in facts.executions if e.state == "COMPLETE" and e.run_id in spans
    )


def serving_was_never_half(watcher: ServingWatcher) -> list[str]:
    """A version that could be seen always had the same files, and was champion before."""
    return [
        *(f"Version {v} was seen with {len(c)} different contents." for v, c in watcher.contents.items() if len(c) > 1),
        *(f"Version {version} was visible before it was champion." for version in sorted(watcher.unpromoted)),
        *([] if watcher.num_looks > 1 else ["Nobody looked at the serving folder."]),
    ]


def every_epoch_was_trained_once(seen: Iterable[Point], *, num_epochs: int) -> list[str]:
    """Over all attempts at a run the Trainer saved every epoch exactly once: it went on where it had stopped."""
    epochs: dict[tuple[int, str], list[int]] = defaultdict(list)
    for point in seen:
        if point.kind == "epoch":
            epochs[point.span, point.run_id].append(int(point.name))
    expected = list(range(1, num_epochs + 1))
    if not epochs:
        return ["No epoch was seen."]
    return [
        f"The Trainer of span {span} (run {run_id}) saved epochs {saved}. Expected {expected}."
        for (span, run_id), saved in epochs.items()
        if saved != expected
    ]


def wrote_nothing(before: Facts, after: Facts) -> list[str]:
    """A worker that lost its lease changed neither ledger nor ML Metadata nor what serving sees."""
    names = [field.name for field in fields(Facts) if field.name not in _NOT_WRITTEN]
    return [
        f"{name} was {getattr(before, name)} and is {getattr(after, name)}."
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]


ALONE: tuple[Callable[[Facts], list[str]], ...] = (
    no_run_is_open,
    all_spans_are_done,
    nobody_holds_the_lease,
    no_execution_is_running,
    every_node_completed_once,
    every_span_is_trained_once,
    versions_are_unique,
    champion_moves_are_a_chain,
    highest_visible_is_champion,
    transitions_are_legal,
    every_run_has_a_decision_record,
    no_temporary_is_left,
)
AS_TWIN: tuple[Callable[[Facts, Facts], list[str]], ...] = (
    same_states,
    same_models,
    same_executions,
    same_predictions,
    same_lineage,
)
