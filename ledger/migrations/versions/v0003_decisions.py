"""What a run that records itself in a cluster needs: a place for its decision that every follower can read."""

from sqlalchemy import Column

from ledger.column_types import long_text, name_of
from ledger.migrations.additions import add_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table; what earlier runs decided lies in their folders."""
    add_table(
        "decisions",
        Column("pipeline", name_of(), primary_key=True),
        Column("run_id", name_of(), primary_key=True),
        Column("document", long_text(), nullable=False),
    )
