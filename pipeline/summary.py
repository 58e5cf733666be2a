"""The pipeline's HTML summary, made from the ledger and the decision records. How it looks is `monitoring.report`'s."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from core.errors import DataError
from ingest.manifests import read_manifest
from ledger.ledger import Ledger
from monitoring.prequential import summarise
from monitoring.report import Champion, Summary, write_summary
from monitoring.span_point import SpanPoint
from pipeline.config import Config
from pipeline.decision import Decision, read_decision
from schemas.gate import HEADLINE_METRIC
from schemas.ledger_records import ChampionRecord, SpanRecord
from schemas.scores import prequential_history
from schemas.spans import MANIFEST_NAME

METRIC_WORDS: dict[str, str] = {
    "auc": "AUC",
    "sparse_categorical_accuracy": "accuracy",
    "mean_squared_error": "mean squared error",
}
# A page for people, written after every cycle: what it costs must not grow with history.
MAX_SHOWN_SPANS = 100
# Runs and spans whose few facts a process keeps: with each cycle one of them is new, and the files do not change.
_MAX_REMEMBERED = 20_000


class _Scores(NamedTuple):
    """What the summary shows of a decision whose span is not the last."""

    span: int
    candidate: Mapping[str, float]
    champion: Mapping[str, float]
    first: float | None


def write_pipeline_summary(config: Config, ledger: Ledger) -> None:
    """Write `summary.html` below the pipeline's root: the newest spans, without those that no run has touched."""
    paths = {run.run_id: Path(run.decision_path) for run in ledger.runs() if run.decision_path}
    touched = [record for record in ledger.spans() if record.state != "arrived"]
    records = touched[-MAX_SHOWN_SPANS:]
    last = _decision(paths, records[-1].run_id) if records else None
    champion = ledger.champion()
    history = prequential_history(records)
    metric = HEADLINE_METRIC[config.label.task]
    write_summary(
        config.summary_path,
        Summary(
            title=config.name,
            written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            num_older=len(touched) - len(records),
            spans=[_point(config, record, paths.get(record.run_id or "")) for record in records],
            champion=_champion(champion, _decision(paths, champion.run_id)) if champion else None,
            gate=last.gate if last else None,
            prequential=summarise(history, config.gate.prequential, metric) if history else None,
            prequential_options=config.gate.prequential,
            drift=last.drift if last else None,
            metric=METRIC_WORDS[metric],
        ),
    )


def _decision(paths: Mapping[str, Path], run_id: str | None) -> Decision | None:
    path = paths.get(run_id or "")
    return read_decision(path) if path and path.exists() else None


def _point(config: Config, record: SpanRecord, decision_path: Path | None) -> SpanPoint:
    scores = _scores(decision_path, _changed_at(decision_path)) if decision_path else None
    # A span inside a cold start's window shares that run, but the run's scores are another span's.
    own = scores if scores is not None and scores.span == record.span else None
    metric = HEADLINE_METRIC[config.label.task]
    return SpanPoint(
        span=record.span,
        label=_label(config, record),
        state=record.state,
        num_examples=record.num_examples,
        drift=record.drift_verdict,
        candidate=own.candidate.get(metric) if own else None,
        champion=own.champion.get(metric) if own else None,
        first=own.first if own else None,
        prequential=(record.prequential or {}).get(metric),
        pushed_version=record.pushed_version,
        seconds=record.seconds,
        reason=record.reason or "",
    )


@lru_cache(_MAX_REMEMBERED)
def _scores(path: Path, changed_at: int | None) -> _Scores | None:
    if changed_at is None:
        return None
    decision = read_decision(path)
    gate = decision.gate
    return _Scores(
        decision.plan.span.span,
        gate.candidate if gate else {},
        gate.champion if gate else {},
        decision.first_model_auc,
    )


def _changed_at(path: Path) -> int | None:
    """Return when a file was last changed, in nanoseconds; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _label(config: Config, record: SpanRecord) -> str:
    correction = f" v{record.version}" if record.version > 1 else ""
    manifest = record.ref.folder(config.spans_path) / MANIFEST_NAME
    start = _first_event(config.spans_path, record.span, record.version, _changed_at(manifest))
    if start is None:
        return f"span {record.span}{correction}"
    day = start.astimezone(ZoneInfo(config.ingest.timezone))
    return f"{day.day} {day:%b %Y}{correction}"


@lru_cache(_MAX_REMEMBERED)
def _first_event(spans_path: Path, span: int, version: int, changed_at: int | None) -> datetime | None:
    if changed_at is None:
        return None
    try:
        return read_manifest(spans_path, span, version).event_time_min
    except DataError:
        return None


def _champion(champion: ChampionRecord, decision: Decision | None) -> Champion:
    facts = [
        ("model", champion.model_uri),
        ("digest", champion.model_digest[:12]),
        ("start", "cold" if champion.base_version is None else f"warm, from version {champion.base_version}"),
        ("transform graph", f"analysed at span {champion.transform_span}"),
    ]
    if decision is not None:
        facts.append(("trained on", ", ".join(f"span {ref.span}" for ref in decision.plan.window)))
        facts += [(name, digest[:12]) for name, digest in decision.digests.items()]
    return Champion(version=champion.version, span=f"span {champion.span}", lineage=tuple(facts))
