"""Ingest options that contradict themselves are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.ingestion import IngestOptions

CSV = {"kind": "csv", "path": "a.csv", "time_column": "t", "key_columns": ["id"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timezone": "America/NewYork"}, "unknown timezone 'America/NewYork'"),
        ({"timezone": "/etc/passwd"}, "unknown timezone"),
        ({"origin": None}, "source 'csv' needs `origin`"),
        ({"window": "month", "origin": "2024-01-31"}, "monthly spans start on the first of a month"),
        ({"window": "fortnight"}, "'day', 'week' or 'month'"),
        ({"eval_fraction": 1.0}, "less than 1"),
        ({"source": CSV | {"key_columns": []}}, "at least 1 item"),
        ({"source": CSV | {"kind": "cvs"}}, "'nycflights13', 'csv', 'parquet', 'tfrecord'"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IngestOptions.model_validate({"source": CSV, "origin": "2024-01-01"} | changes)


def test_spans_that_are_cut_already_need_no_origin() -> None:
    patterns = {"train": "{SPAN}/t", "eval": "{SPAN}/e"}
    options = IngestOptions.model_validate({"source": {"kind": "tfrecord", "patterns": patterns}})
    assert options.source.kind == "tfrecord"
