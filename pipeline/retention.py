"""Which models, runs and artifacts garbage collection must leave: a pure function of the ledger's rows."""

import json
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.plan import RunPlan
from schemas.base import Record
from schemas.ledger_records import ModelRecord, RunRecord, SpanRecord

# After these the next run of the span may go on with what this one made.
_RESUMABLE = frozenset({"failed", "champion_moved", "cold_start"})


class History(Record):
    """The ledger's rows that retention is decided on.

    Attributes:
        champion_version: The model that serves; None before the first.
        newest_replay_uri: The buffer that the next plan reads; None before the first.
        runs: In the order they started.
    """

    champion_version: int | None
    newest_replay_uri: str | None
    models: tuple[ModelRecord, ...]
    runs: tuple[RunRecord, ...]
    spans: tuple[SpanRecord, ...]

    @property
    def present(self) -> dict[int, ModelRecord]:
        """The models whose files were not removed, by version."""
        return {model.version: model for model in self.models if model.removed_at is None}


class Kept(Record):
    """What stays.

    Attributes:
        versions: Models.
        run_ids: Runs of which every artifact stays.
        uris: Further folders of artifacts, among other texts of the plans that name them.
        push_versions: Versions that an unfinished run may have staged.
        checkpoints: Names of folders of checkpoints that a run may go on from.
    """

    versions: frozenset[int]
    run_ids: frozenset[str]
    uris: frozenset[str]
    push_versions: frozenset[int]
    checkpoints: frozenset[str]


def retain(history: History, config: Config) -> Kept:
    """Decide what stays: what serves or may serve again, what that descends from, and what a plan may read."""
    keep_last = config.registry.keep_last
    versions = kept_versions(history, keep_last)
    makers = {history.present[version].run_id for version in _roots(history, keep_last)}
    runs = _runs_kept_whole(history, makers, keep_last)
    named = {text for run in runs for text in _texts(json.loads(run.plan))}
    plans = [plan for run in runs if (plan := _plan_of(run)) is not None]
    models = [history.present[version] for version in versions]
    return Kept(
        versions=versions,
        # A run that only judged a candidate again goes on from the run that trained it.
        run_ids=frozenset(
            {run.run_id for run in runs} | {plan.candidate_run_id for plan in plans if plan.candidate_run_id}
        ),
        uris=frozenset(
            named
            | {uri for m in models for uri in (m.model_uri, m.transform_graph_uri, m.statistics_uri)}
            # A repair runs the newest spans again, each against the statistics of the one before.
            | _uris_for_planning(history.spans, max(config.corrections.max_rerun_spans, keep_last) + 1)
            | ({history.newest_replay_uri} if history.newest_replay_uri else set())
        ),
        push_versions=frozenset(plan.push_version for plan in plans),
        checkpoints=frozenset(plan.checkpoint_name for plan in plans),
    )


def kept_versions(history: History, keep_last: int) -> frozenset[int]:
    """Return the models that stay: the champion and all after it, pinned ones, the newest, and all their ancestors."""
    present = history.present
    waiting = _roots(history, keep_last)
    kept: set[int] = set()
    while waiting:
        version = waiting.pop()
        if version in present and version not in kept:
            kept.add(version)
            base = present[version].base_version
            waiting |= set() if base is None else {base}
    return frozenset(kept)


def _roots(history: History, keep_last: int) -> set[int]:
    """Return the models that are kept for their own sake."""
    present = history.present
    newest = set(sorted(present)[-keep_last:])
    pinned = {version for version, model in present.items() if model.is_pinned}
    # Also those after the champion: a rollback may be taken back.
    since = {version for version in present if history.champion_version and version >= history.champion_version}
    return newest | pinned | since


def _runs_kept_whole(history: History, run_ids: Collection[str], keep_last: int) -> list[RunRecord]:
    """Return the runs of which everything stays: what may go on, what people still look at, and `run_ids`."""
    last_of_span = {(run.span, run.version): run.run_id for run in history.runs}
    kept = {run.run_id for run in history.runs[-keep_last:]} | set(run_ids)
    return [
        run
        for run in history.runs
        if run.outcome is None
        or run.run_id in kept
        or (run.outcome in _RESUMABLE and last_of_span[run.span, run.version] == run.run_id)
    ]


def _uris_for_planning(spans: Iterable[SpanRecord], num_recent_spans: int) -> set[str]:
    """Return statistics and replay buffers that a plan may name: of the newest spans, and from before a late one."""
    ordered = sorted(spans, key=lambda row: (row.span, row.version))
    described = [row for row in ordered if row.statistics_uri and row.state != "blocked"]
    numbers = [row.span for row in described]
    recent = set(sorted(set(numbers))[-num_recent_spans:])
    before_late = {bisect_left(numbers, row.span) - 1 for row in ordered if row.state == "arrived"} - {-1}
    chosen = [row for row in described if row.span in recent] + [described[index] for index in sorted(before_late)]
    return {uri for row in chosen for uri in (row.statistics_uri, row.replay_uri) if uri}


def _texts(tree: Any) -> Iterator[str]:
    """Yield every text in a JSON document."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(branch)


def _plan_of(run: RunRecord) -> RunPlan | None:
    """Return the plan of a run, or None for one of another release, which cannot be gone on with."""
    try:
        return RunPlan.model_validate_json(run.plan)
    except ValidationError:
        return None
