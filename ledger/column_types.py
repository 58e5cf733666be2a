"""Column types that mean the same in SQLite, PostgreSQL and MySQL; tables and migrations share them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

# 255 characters of 4 bytes: three of them still fit the 3072 bytes of a key in InnoDB.
MAX_NAME_CHARS = 255
DIGEST_CHARS = 64
MAX_WORD_CHARS = 16
# What SQLAlchemy calls it, by the URL.
MYSQL = ("mysql", "mariadb")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC to the microsecond, on databases that keep a time zone and on those that drop it."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Ask MySQL for microseconds, which it leaves out where it is not asked."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name in MYSQL else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store the UTC wall time without a zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


def name_of(max_chars: int = MAX_NAME_CHARS) -> TypeEngine[str]:
    """Return a short text that may be part of a key; MySQL, too, tells `a` from `A` in it."""
    return String(max_chars).with_variant(mysql.VARCHAR(max_chars, charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)


def long_text() -> TypeEngine[str]:
    """Return a text of any length: a plan with a long window outgrows the 64 KiB of MySQL's TEXT."""
    return Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), *MYSQL)
