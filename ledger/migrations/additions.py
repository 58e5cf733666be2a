"""Add what is missing, and only that: on MySQL a step that was killed half-way leaves a half, and is run again."""

from typing import Any

from alembic import op
from sqlalchemy import Column, ColumnElement, inspect
from sqlalchemy.schema import SchemaItem


def add_table(name: str, *columns: SchemaItem) -> None:
    """Make a table unless there is one of that name."""
    op.create_table(name, *columns, if_not_exists=True)


def add_columns(table: str, *columns: Column[Any]) -> None:
    """Add those columns that the table lacks; its rows keep what they have."""
    present = {column["name"] for column in inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in present:
            op.add_column(table, column)


def add_index(name: str, table: str, columns: list[str], *, where: ColumnElement[bool] | None = None) -> None:
    """Make an index unless there is one of that name, of the rows `where` says on databases that can leave out some."""
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
