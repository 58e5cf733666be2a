"""The pipeline's HTML summary, made from the ledger and the decision records. How it looks is `monitoring.report`'s."""

from datetime import UTC, datetime
from pathlib import Path
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

METRIC_WORDS: dict[str, str] = {
    "auc": "AUC",
    "sparse_categorical_accuracy": "accuracy",
    "mean_squared_error": "mean squared error",
}


def write_pipeline_summary(config: Config, ledger: Ledger) -> None:
    """Write `summary.html` below the pipeline's root; spans that no run has touched are left out."""
    decisions = _latest_decisions(ledger)
    records = [record for record in ledger.spans() if record.state != "arrived"]
    last = decisions.get(records[-1].run_id or "") if records else None
    champion = ledger.champion()
    history = prequential_history(records)
    metric = HEADLINE_METRIC[config.label.task]
    write_summary(
        config.summary_path,
        Summary(
            title=config.name,
            written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            spans=[_point(config, record, decisions.get(record.run_id or "")) for record in records],
            champion=_champion(champion, decisions.get(champion.run_id)) if champion else None,
            gate=last.gate if last else None,
            prequential=summarise(history, config.gate.prequential, metric) if history else None,
            prequential_options=config.gate.prequential,
            drift=last.drift if last else None,
            metric=METRIC_WORDS[metric],
        ),
    )


def _latest_decisions(ledger: Ledger) -> dict[str, Decision]:
    paths = {run.run_id: Path(run.decision_path) for run in ledger.runs() if run.decision_path}
    return {run_id: read_decision(path) for run_id, path in paths.items() if path.exists()}


def _point(config: Config, record: SpanRecord, decision: Decision | None) -> SpanPoint:
    # A span inside a cold start's window shares that run, but the run's scores are another span's.
    own = decision if decision is not None and decision.plan.span.span == record.span else None
    metric = HEADLINE_METRIC[config.label.task]
    return SpanPoint(
        span=record.span,
        label=_label(config, record),
        state=record.state,
        num_examples=record.num_examples,
        drift=record.drift_verdict,
        candidate=own.gate.candidate.get(metric) if own and own.gate else None,
        champion=own.gate.champion.get(metric) if own and own.gate else None,
        first=own.first_model_auc if own else None,
        prequential=(record.prequential or {}).get(metric),
        pushed_version=record.pushed_version,
        seconds=record.seconds,
        reason=record.reason or "",
    )


def _label(config: Config, record: SpanRecord) -> str:
    correction = f" v{record.version}" if record.version > 1 else ""
    try:
        start = read_manifest(config.spans_path, record.span, record.version).event_time_min
    except DataError:
        start = None
    if start is None:
        return f"span {record.span}{correction}"
    day = start.astimezone(ZoneInfo(config.ingest.timezone))
    return f"{day.day} {day:%b %Y}{correction}"


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
