"""Lines that a machine can read, a person can read, and that hold no secret."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from pipeline.logs import LOGGER_NAME, make_log, write_logs


@pytest.fixture
def lines() -> Iterator[Callable[[str], io.StringIO]]:
    """Write the log to a stream in the form asked for."""
    ours, root = logging.getLogger(LOGGER_NAME), logging.getLogger()
    before = (ours.level, root.level, list(root.handlers))

    def write(form: str) -> io.StringIO:
        stream = io.StringIO()
        write_logs(stream, form)
        return stream

    yield write
    ours.level, root.level, root.handlers[:] = before
    for handler in set(root.handlers) - set(before[2]):
        handler.close()


def test_a_line_is_one_json_object(lines):
    stream = lines("json")
    make_log("flights").info("Span %d was pushed.", 7, extra={"event": "cycle_ended", "span": 7, "run_id": "r"})
    (line,) = stream.getvalue().splitlines()
    document = json.loads(line)
    assert document.pop("at").endswith("+00:00")
    assert document == {
        "level": "INFO",
        "logger": "perennial",
        "message": "Span 7 was pushed.",
        "pipeline": "flights",
        "event": "cycle_ended",
        "span": 7,
        "run_id": "r",
    }


def test_a_traceback_stays_in_its_line(lines):
    stream = lines("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        make_log("flights").exception("It broke.")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: two\nlines" in json.loads(line)["exc_info"]


def test_a_person_reads_the_sentence_first(lines):
    stream = lines("text")
    make_log("flights").warning("Span 7 is overdue.", extra={"event": "alert", "span": 7, "policy": None})
    assert stream.getvalue().endswith("WARNING Span 7 is overdue.  [event=alert span=7]\n")


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_password_is_written(lines, form):
    stream = lines(form)
    try:
        raise OSError("mysql+pymysql://me:secret@db:3306/ledger")
    except OSError:
        make_log("flights").exception("Away: %s", "postgresql://me:secret@db/ledger")
    assert "secret" not in stream.getvalue()
    assert stream.getvalue().count("://***@db") >= 2


def test_other_libraries_take_the_same_form_from_their_level_on(lines):
    stream = lines("json")
    # A logger of the test's own: others are what the tests before this one left of them.
    library = logging.getLogger("a.library")
    library.setLevel(logging.ERROR)
    library.error("Execution 4 failed.")
    library.warning("noise")
    (line,) = stream.getvalue().splitlines()
    document = json.loads(line)
    assert (document["logger"], document["level"], document["message"]) == ("a.library", "ERROR", "Execution 4 failed.")
