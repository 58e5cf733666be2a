"""Bring a ledger's tables to the shape that this code expects. Imports Alembic, so only an old ledger imports this."""

from itertools import takewhile
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from core.errors import LedgerError

# Not Alembic's own name for it, which another program in the same database may use.
VERSION_TABLE = "ledger_version"


def upgrade(connection: Connection) -> None:
    """Apply the steps that the ledger at `connection` lacks, oldest first; the caller keeps others out and commits.

    Raises:
        LedgerError: the ledger was made by a newer version of this code.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    current = context.get_current_revision()
    newest_first = list(scripts.walk_revisions())
    if current is not None and current not in {script.revision for script in newest_first}:
        raise LedgerError(
            f"The ledger was made by a newer Perennial. Expected a version up to {scripts.get_current_head()!r}; "
            f"received {current!r}. Install the Perennial that made it, or restore the backup from before its upgrade."
        )
    pending = list(takewhile(lambda script: script.revision != current, newest_first))
    with Operations.context(context):
        for script in reversed(pending):
            script.module.upgrade()
            context.stamp(scripts, script.revision)
