"""The ledger's tables as the code of today sees them; `ledger.migrations` makes them. Every row is one pipeline's."""

from sqlalchemy import JSON, Boolean, Column, Double, Index, Integer, MetaData, Table, UniqueConstraint, false

from ledger.column_types import DIGEST_CHARS, MAX_WORD_CHARS, UtcDateTime, long_text, name_of

metadata = MetaData()

# Columns that say whose row it is and in which order it came; records don't have them.
INTERNAL_COLUMNS = frozenset({"id", "pipeline"})

# One row per pipeline: the counter that versions come from, and the pointer to the champion.
pipelines = Table(
    "pipelines",
    metadata,
    Column("pipeline", name_of(), primary_key=True),
    Column("last_version", Integer, nullable=False),
    Column("champion_version", Integer),
    Column("moved_at", UtcDateTime),
)

# One row per pipeline, which every write locks first; so its writes happen one after another.
leases = Table(
    "leases",
    metadata,
    Column("pipeline", name_of(), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("holder", name_of()),
    Column("beats", Integer, nullable=False),
    Column("ttl_seconds", Double, nullable=False),
    Column("heartbeat_at", UtcDateTime),
)

spans = Table(
    "spans",
    metadata,
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
    Column("replay_uri", long_text()),
    Column("prequential", JSON(none_as_null=True)),
    Column("seconds", Double),
    Column("run_id", name_of()),
    Column("reason", long_text()),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("label_complete_time", UtcDateTime),
    Column("event_time_max", UtcDateTime),
    Column("arrived_at", UtcDateTime),
    UniqueConstraint("pipeline", "span", "version", "digest"),
)
Index("spans_by_state", spans.c.pipeline, spans.c.state, spans.c.span, spans.c.version)
# A backlog of arrived spans has none of these, and must not be walked through to the few that have one. MySQL knows no
# index of some rows only and gets one of all.
for _name, _present, _order in (
    ("spans_with_statistics", spans.c.statistics_uri, (spans.c.span, spans.c.version)),
    ("spans_with_replay", spans.c.replay_uri, (spans.c.updated_at, spans.c.span, spans.c.version)),
    ("spans_with_score", spans.c.prequential, (spans.c.span, spans.c.version)),
):
    _has_one = _present.is_not(None)
    Index(_name, spans.c.pipeline, *_order, sqlite_where=_has_one, postgresql_where=_has_one)

transitions = Table(
    "transitions",
    metadata,
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
Index("transitions_by_span", transitions.c.pipeline, transitions.c.span, transitions.c.id)

runs = Table(
    "runs",
    metadata,
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
    Column("config_digest", name_of(DIGEST_CHARS), nullable=False, server_default=""),
    Column("code_digest", name_of(DIGEST_CHARS), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    UniqueConstraint("pipeline", "run_id"),
)
Index("runs_in_order", runs.c.pipeline, runs.c.id)
Index("runs_by_outcome", runs.c.pipeline, runs.c.outcome, runs.c.id)
Index("runs_by_end", runs.c.pipeline, runs.c.finished_at)
Index("runs_by_span", runs.c.pipeline, runs.c.span, runs.c.version, runs.c.id)
Index("runs_by_trigger", runs.c.pipeline, runs.c.trigger, runs.c.span)

# What a run decided, by which whoever did not run it learns how it went. Apart from the runs, so that a list of runs
# does not read it.
decisions = Table(
    "decisions",
    metadata,
    Column("pipeline", name_of(), primary_key=True),
    Column("run_id", name_of(), primary_key=True),
    Column("document", long_text(), nullable=False),
)

models = Table(
    "models",
    metadata,
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
    Column("line_length", Integer, nullable=False, server_default="0"),
    Column("base_version", Integer),
    Column("pushed_at", UtcDateTime, nullable=False),
    Column("line_start_span", Integer),
    Column("newest_span", Integer),
    Column("is_pinned", Boolean, nullable=False, server_default=false()),
    Column("removed_at", UtcDateTime),
)
Index("models_by_base", models.c.pipeline, models.c.base_version, models.c.span)

champion_moves = Table(
    "champion_moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pipeline", name_of(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("by", name_of(), nullable=False),
    Column("reason", long_text()),
    Column("run_id", name_of()),
    Column("at", UtcDateTime, nullable=False),
)
Index("champion_moves_in_order", champion_moves.c.pipeline, champion_moves.c.id)

trigger_requests = Table(
    "trigger_requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pipeline", name_of(), nullable=False),
    Column("span", Integer),
    Column("initialisation", name_of()),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("taken_at", UtcDateTime),
)
Index("trigger_requests_waiting", trigger_requests.c.pipeline, trigger_requests.c.taken_at, trigger_requests.c.id)

# When each trigger of a config last fired; a config names them.
fired_triggers = Table(
    "fired_triggers",
    metadata,
    Column("pipeline", name_of(), primary_key=True),
    Column("policy", name_of(), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)
