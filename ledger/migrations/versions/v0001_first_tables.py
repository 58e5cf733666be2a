"""The tables of the first ledgers, which had no version of their own; on one of those this only adds what it lacks."""

from sqlalchemy import JSON, Column, Double, Integer, UniqueConstraint

from ledger.column_types import DIGEST_CHARS, MAX_WORD_CHARS, UtcDateTime, long_text, name_of
from ledger.migrations.additions import add_columns, add_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of spans, runs, models and the champion."""
    add_table(
        "pipelines",
        Column("pipeline", name_of(), primary_key=True),
        Column("last_version", Integer, nullable=False),
        Column("champion_version", Integer),
        Column("moved_at", UtcDateTime),
    )
    _add_spans()
    _add_runs()
    _add_models()


def _add_spans() -> None:
    add_table(
        "spans",
        Column("id", Integer, primary_key=True),
        Column("pipeline", name_of(), nullable=False),
        Column("span", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("digest", name_of(DIGEST_CHARS), nullable=False),
        Column("state", name_of(MAX_WORD_CHARS), nullable=False),
        Column("num_examples", Integer, nullable=False),
        Column("drift_verdict", name_of(MAX_WORD_CHARS)),
        Column("candidate_auc", Double),
        Column("champion_auc", Double),
        Column("pushed_version", Integer),
        Column("statistics_uri", long_text()),
        Column("prequential", JSON(none_as_null=True)),
        Column("seconds", Double),
        Column("run_id", name_of()),
        Column("reason", long_text()),
        Column("updated_at", UtcDateTime, nullable=False),
        UniqueConstraint("pipeline", "span", "version", "digest"),
    )
    add_columns("spans", Column("replay_uri", long_text()))


def _add_runs() -> None:
    add_table(
        "runs",
        Column("id", Integer, primary_key=True),
        Column("pipeline", name_of(), nullable=False),
        Column("run_id", name_of(), nullable=False),
        Column("span", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("trigger", name_of(), nullable=False),
        Column("plan", long_text(), nullable=False),
        Column("outcome", name_of(MAX_WORD_CHARS)),
        Column("error", long_text()),
        Column("started_at", UtcDateTime, nullable=False),
        Column("finished_at", UtcDateTime),
        Column("decision_path", long_text()),
        UniqueConstraint("pipeline", "run_id"),
    )


def _add_models() -> None:
    add_table(
        "models",
        Column("pipeline", name_of(), primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("run_id", name_of(), nullable=False),
        Column("span", Integer, nullable=False),
        Column("span_version", Integer, nullable=False),
        Column("model_uri", long_text(), nullable=False),
        Column("model_digest", name_of(DIGEST_CHARS), nullable=False),
        Column("training_digest", name_of(DIGEST_CHARS), nullable=False),
        Column("transform_graph_uri", long_text(), nullable=False),
        Column("transform_span", Integer, nullable=False),
        Column("statistics_uri", long_text(), nullable=False),
        Column("model_shape", long_text(), nullable=False),
        Column("base_version", Integer),
        Column("pushed_at", UtcDateTime, nullable=False),
    )
    add_columns("models", Column("line_length", Integer, nullable=False, server_default="0"))
