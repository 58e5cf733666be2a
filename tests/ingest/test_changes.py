"""How much a correction changed, measured on spans that `ingest` wrote."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import DataError
from ingest.changes import Change, change_between
from ingest.ingestion import ingest
from ingest.manifests import read_manifest


@pytest.fixture
def changed_span(tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any) -> Any:
    """Ingest span 1 with some rows, then with others; return what changed."""

    def change(before: list[dict[str, str]], after: list[dict[str, str]]) -> Change:
        root = tmp_path / "spans"
        for rows in (before, after):
            ingest(make_options(write_csv(tmp_path / "a.csv", rows)), root, schema=schema)
        return change_between(root, read_manifest(root, 1, 1).ref, read_manifest(root, 1, 2).ref)

    return change


def test_added_removed_and_altered_examples_are_counted(changed_span: Any, make_rows: Any) -> None:
    rows = make_rows(10)
    altered = {**rows[3], "label": "0"}
    new = [{**rows[0], "id": f"new-{number}"} for number in range(3)]
    change = changed_span(rows, [*rows[:3], altered, *rows[5:], *new])
    assert (change.num_before, change.num_after) == (10, 12)
    assert (change.num_removed, change.num_added) == (2, 4)
    assert change.share == 4 / 12


def test_a_repeated_record_counts_as_often_as_it_is_there(changed_span: Any, make_rows: Any) -> None:
    rows = make_rows(10)
    twin = {**rows[1], "id": "twin"}  # the key decides the split alone and is no feature of these spans
    change = changed_span(rows, [*rows, twin, {**twin, "id": "triplet"}])
    assert (change.num_removed, change.num_added) == (0, 2)


def test_a_version_has_not_changed_against_itself(changed_span: Any, make_rows: Any, tmp_path: Path) -> None:
    rows = make_rows(10)
    changed_span(rows, rows[:9])
    root = tmp_path / "spans"
    same = read_manifest(root, 1, 1).ref
    assert change_between(root, same, same) == Change(num_before=10, num_after=10, num_added=0, num_removed=0)
    assert change_between(root, same, same).share == 0


def test_everything_may_change() -> None:
    assert Change(num_before=5, num_after=9, num_added=9, num_removed=5).share == 1
    assert Change(num_before=5, num_after=0, num_added=0, num_removed=5).share == 1
    assert Change(num_before=0, num_after=0, num_added=0, num_removed=0).share == 0


def test_another_content_than_the_ledgers_is_refused(changed_span: Any, make_rows: Any, tmp_path: Path) -> None:
    rows = make_rows(10)
    changed_span(rows, rows[:9])
    ref = read_manifest(tmp_path / "spans", 1, 1).ref
    with pytest.raises(
        DataError, match=r"Span 1 version 1 on disk is not the one in the ledger\. .*restore its folder"
    ):
        change_between(tmp_path / "spans", ref.model_copy(update={"digest": "0" * 64}), ref)
