"""Which cycles of a long run are compared, and what a kill leaves of its measurements."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.long_run import NUM_COMPARED, compared, read_cycles, report


def cycle(span: int, *, kind: str = "warm", process: int = 1, seconds: float = 2.0) -> dict[str, Any]:
    return {"span": span, "kind": kind, "process": process, "seconds": seconds}


def test_the_first_cycles_of_each_process_are_not_compared() -> None:
    cycles = [cycle(span, process=1 + (span > 4)) for span in range(1, 9)]
    early, late = compared(cycles)
    assert [made["span"] for made in early] == [3, 4]
    assert [made["span"] for made in late] == [7, 8]


def test_refreshed_and_cold_cycles_are_not_compared() -> None:
    kinds = ["cold", "warm", "warm", "refresh", "warm"]
    early, late = compared([cycle(span, kind=kind) for span, kind in enumerate(kinds)])
    assert [made["span"] for made in (*early, *late)] == [2, 4]


def test_as_many_are_compared_from_the_beginning_as_from_the_end() -> None:
    early, late = compared([cycle(span) for span in range(300)])
    assert len(early) == len(late) == NUM_COMPARED
    assert (early[0]["span"], late[-1]["span"]) == (2, 299)


def test_a_line_that_a_kill_cut_off_does_not_count(tmp_path: Path) -> None:
    assert read_cycles(tmp_path) == []
    whole = json.dumps(cycle(1))
    (tmp_path / "cycles.jsonl").write_text(f"{whole}\n{whole[:-9]}", encoding="utf-8")
    assert read_cycles(tmp_path) == [cycle(1)]


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"Only 2 cycles were run\. Expected at least three"):
        report([cycle(1), cycle(2)])
