"""Tell a failure of a database that may pass by itself from one that will not, in each driver's own words."""

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError

# SQLite's primary result codes.
_SQLITE_PASSING = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL}
)
# PostgreSQL's classes of SQLSTATE: connection, transaction rollback, resources, object in use, operator intervention.
_POSTGRESQL_PASSING = ("08", "40", "53", "55", "57")
# What PostgreSQL says while it connects has no SQLSTATE; these refusals stay.
_POSTGRESQL_REFUSALS = ("does not exist", "authentication failed", "pg_hba.conf", "not permitted", "permission denied")
# MySQL's numbers: disk or table full, too many connections, lock timeout, deadlock, shutdown, no or a lost connection.
_MYSQL_PASSING = frozenset({1021, 1040, 1041, 1053, 1114, 1203, 1205, 1213, 2002, 2003, 2006, 2013, 2055, 4031})


def may_pass(error: DBAPIError) -> bool:
    """Tell whether the same statement may work later without anyone changing it or the config."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF in _SQLITE_PASSING
    if type(cause).__module__.startswith("psycopg"):
        return _postgresql_may_pass(getattr(cause, "sqlstate", None), error)
    code = cause.args[0] if cause is not None and cause.args else None
    return error.connection_invalidated or code in _MYSQL_PASSING


def _postgresql_may_pass(sqlstate: str | None, error: DBAPIError) -> bool:
    if sqlstate is not None:
        return sqlstate.startswith(_POSTGRESQL_PASSING)
    return isinstance(error, OperationalError) and not any(words in str(error.orig) for words in _POSTGRESQL_REFUSALS)
