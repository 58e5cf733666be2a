"""The ledger's tables, in types that SQLite, PostgreSQL and MySQL share. Every row belongs to one pipeline."""

from datetime import UTC, datetime

from sqlalchemy import JSON, Column, DateTime, Float, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

# MySQL wants a length for every text that is part of a key; 255 is the most that its oldest index format takes.
_MAX_NAME_CHARS = 255
_DIGEST_CHARS = 64
_MAX_WORD_CHARS = 16


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, on databases that keep a time zone and on those that drop it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store the UTC wall time without a zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData()

# Columns that say whose row it is and in which order it came; records don't have them.
INTERNAL_COLUMNS = frozenset({"id", "pipeline"})

# One row per pipeline: the counter that versions come from, and the pointer to the champion.
pipelines = Table(
    "pipelines",
    metadata,
    Column("pipeline", String(_MAX_NAME_CHARS), primary_key=True),
    Column("last_version", Integer, nullable=False),
    Column("champion_version", Integer),
    Column("moved_at", UtcDateTime),
)

spans = Table(
    "spans",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pipeline", String(_MAX_NAME_CHARS), nullable=False),
    Column("span", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(_DIGEST_CHARS), nullable=False),
    Column("state", String(_MAX_WORD_CHARS), nullable=False),
    Column("num_examples", Integer, nullable=False),
    Column("drift_verdict", String(_MAX_WORD_CHARS)),
    Column("candidate_auc", Float),
    Column("champion_auc", Float),
    Column("pushed_version", Integer),
    Column("statistics_uri", Text),
    Column("replay_uri", Text),
    Column("prequential", JSON(none_as_null=True)),
    Column("seconds", Float),
    Column("run_id", String(_MAX_NAME_CHARS)),
    Column("reason", Text),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("pipeline", "span", "version", "digest"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pipeline", String(_MAX_NAME_CHARS), nullable=False),
    Column("run_id", String(_MAX_NAME_CHARS), nullable=False),
    Column("span", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("trigger", String(_MAX_NAME_CHARS), nullable=False),
    Column("plan", Text, nullable=False),
    Column("outcome", String(_MAX_WORD_CHARS)),
    Column("error", Text),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("decision_path", Text),
    UniqueConstraint("pipeline", "run_id"),
)

models = Table(
    "models",
    metadata,
    Column("pipeline", String(_MAX_NAME_CHARS), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("run_id", String(_MAX_NAME_CHARS), nullable=False),
    Column("span", Integer, nullable=False),
    Column("span_version", Integer, nullable=False),
    Column("model_uri", Text, nullable=False),
    Column("model_digest", String(_DIGEST_CHARS), nullable=False),
    Column("training_digest", String(_DIGEST_CHARS), nullable=False),
    Column("transform_graph_uri", Text, nullable=False),
    Column("transform_span", Integer, nullable=False),
    Column("statistics_uri", Text, nullable=False),
    Column("model_shape", Text, nullable=False),
    Column("line_length", Integer, nullable=False, server_default="0"),
    Column("base_version", Integer),
    Column("pushed_at", UtcDateTime, nullable=False),
)
