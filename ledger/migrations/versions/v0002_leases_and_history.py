"""What running by itself needs: the lease, each span's transitions, the champion's moves, triggers, run attempts."""

from alembic import op
from sqlalchemy import Boolean, Column, Double, Integer, String, column, false, literal_column, select, table

from ledger.column_types import DIGEST_CHARS, MAX_WORD_CHARS, UtcDateTime, long_text, name_of
from ledger.migrations.additions import add_columns, add_index, add_table

revision = "0002"
down_revision = "0001"

# Why a row of an older ledger has one step only.
_BEFORE = "before steps were recorded"


def upgrade() -> None:
    """Add tables, columns and indexes, and fill them from what an older ledger has."""
    _add_tables()
    _add_columns()
    _add_indexes()
    _fill_history()
    _fill_lines()


def _add_tables() -> None:
    add_table(
        "leases",
        Column("pipeline", name_of(), primary_key=True),
        Column("token", Integer, nullable=False),
        Column("holder", name_of()),
        Column("beats", Integer, nullable=False),
        Column("ttl_seconds", Double, nullable=False),
        Column("heartbeat_at", UtcDateTime),
    )
    add_table(
        "transitions",
        Column("id", Integer, primary_key=True),
        Column("pipeline", name_of(), nullable=False),
        Column("span", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("digest", name_of(DIGEST_CHARS), nullable=False),
        Column("from_state", name_of(MAX_WORD_CHARS)),
        Column("to_state", name_of(MAX_WORD_CHARS), nullable=False),
        Column("run_id", name_of()),
        Column("reason", long_text()),
        Column("token", Integer),
        Column("at", UtcDateTime, nullable=False),
    )
    add_table(
        "champion_moves",
        Column("id", Integer, primary_key=True),
        Column("pipeline", name_of(), nullable=False),
        Column("version", Integer, nullable=False),
        Column("previous", Integer),
        Column("by", name_of(), nullable=False),
        Column("reason", long_text()),
        Column("run_id", name_of()),
        Column("at", UtcDateTime, nullable=False),
    )
    add_table(
        "trigger_requests",
        Column("id", Integer, primary_key=True),
        Column("pipeline", name_of(), nullable=False),
        Column("span", Integer),
        Column("initialisation", name_of()),
        Column("requested_at", UtcDateTime, nullable=False),
        Column("taken_at", UtcDateTime),
    )
    add_table(
        "fired_triggers",
        Column("pipeline", name_of(), primary_key=True),
        Column("policy", name_of(), primary_key=True),
        Column("at", UtcDateTime, nullable=False),
    )


def _add_columns() -> None:
    add_columns(
        "spans", *(Column(name, UtcDateTime) for name in ("label_complete_time", "event_time_max", "arrived_at"))
    )
    add_columns(
        "runs",
        Column("config_digest", name_of(DIGEST_CHARS), nullable=False, server_default=""),
        Column("code_digest", name_of(DIGEST_CHARS), nullable=False, server_default=""),
        Column("attempts", Integer, nullable=False, server_default="0"),
    )
    add_columns(
        "models",
        Column("line_start_span", Integer),
        Column("newest_span", Integer),
        Column("is_pinned", Boolean, nullable=False, server_default=false()),
        Column("removed_at", UtcDateTime),
    )


def _add_indexes() -> None:
    add_index("spans_by_state", "spans", ["pipeline", "state", "span", "version"])
    for name, present, order in (
        ("spans_with_statistics", "statistics_uri", ["span", "version"]),
        ("spans_with_replay", "replay_uri", ["updated_at", "span", "version"]),
        ("spans_with_score", "prequential", ["span", "version"]),
    ):
        add_index(name, "spans", ["pipeline", *order], where=column(present).is_not(None))
    add_index("transitions_by_span", "transitions", ["pipeline", "span", "id"])
    add_index("runs_in_order", "runs", ["pipeline", "id"])
    add_index("runs_by_outcome", "runs", ["pipeline", "outcome", "id"])
    add_index("runs_by_end", "runs", ["pipeline", "finished_at"])
    add_index("runs_by_span", "runs", ["pipeline", "span", "version", "id"])
    add_index("runs_by_trigger", "runs", ["pipeline", "trigger", "span"])
    add_index("models_by_base", "models", ["pipeline", "base_version", "span"])
    add_index("champion_moves_in_order", "champion_moves", ["pipeline", "id"])
    add_index("trigger_requests_waiting", "trigger_requests", ["pipeline", "taken_at", "id"])


def _fill_history() -> None:
    """Give every span and champion the one step that can be known: to where it is."""
    op.execute(
        "INSERT INTO transitions (pipeline, span, version, digest, to_state, run_id, reason, at) "
        f"SELECT pipeline, span, version, digest, state, run_id, '{_BEFORE}', updated_at FROM spans "
        "WHERE NOT EXISTS (SELECT 1 FROM transitions) ORDER BY spans.id"
    )
    # Only of a span that nothing has happened to since is it known when it arrived.
    op.execute("UPDATE spans SET arrived_at = updated_at WHERE state = 'arrived'")
    pointers = table("pipelines", *map(column, ("pipeline", "champion_version", "moved_at")))
    moves = table("champion_moves", *map(column, ("pipeline", "version", "by", "reason", "at")))
    known = pointers.c.champion_version.is_not(None) & ~moves.select().exists()
    words = literal_column(f"'upgrade', '{_BEFORE}'", String)
    first = select(pointers.c.pipeline, pointers.c.champion_version, words, pointers.c.moved_at).where(known)
    op.execute(moves.insert().from_select(list(moves.c.keys()), first))


def _fill_lines() -> None:
    """Say of every model where its line began and the newest span it has seen; ancestors come before descendants."""
    models = table("models", *map(column, ("pipeline", "version", "span", "base_version")))
    lines: dict[tuple[str, int], tuple[int, int]] = {}
    connection = op.get_bind()
    for pipeline, version, span, base in connection.execute(models.select().order_by(models.c.version)):
        start, newest = lines.get((pipeline, base), (span, span))
        lines[pipeline, version] = (start, max(newest, span))
    target = table("models", *map(column, ("pipeline", "version", "line_start_span", "newest_span")))
    for (pipeline, version), (start, newest) in lines.items():
        is_it = (target.c.pipeline == pipeline) & (target.c.version == version)
        connection.execute(target.update().where(is_it).values(line_start_span=start, newest_span=newest))
