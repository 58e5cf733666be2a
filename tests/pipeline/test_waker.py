"""New spans wake the daemon at once where the kernel tells of them."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import DirMovedEvent, FileClosedEvent

from pipeline.config import load_config
from pipeline.waker import Waker, folders_to_watch

PATIENCE_SECONDS = 30  # for the kernel and another thread; usually it takes milliseconds


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def waker(tmp_path: Path, woken: threading.Event) -> Iterator[Waker]:
    waker = Waker([tmp_path, tmp_path / "absent"], woken.set)
    yield waker
    waker.stop()


def test_a_span_that_is_renamed_into_place_wakes(waker, woken, tmp_path):
    parent = tmp_path / "span-000007"
    (parent / ".tmp-x").mkdir(parents=True)
    assert str(tmp_path) in waker.start()
    os.rename(parent / ".tmp-x", parent / "version-1")
    assert woken.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("event", "wakes"),
    [
        (FileClosedEvent("/spans/span-000001/.tmp-x/Split-train/a"), False),
        (FileClosedEvent("/spans/span-000001/version-1/manifest.json"), True),
        (DirMovedEvent("/spans/span-000001/.tmp-x", "/spans/span-000001/version-1"), True),
        (DirMovedEvent("/spans/a", "/spans/span-000001/.tmp-x"), False),
    ],
)
def test_what_is_not_whole_wakes_nobody(waker, woken, event, wakes):
    waker.dispatch(event)
    assert woken.is_set() == wakes


def test_a_folder_that_is_not_there_is_polled(tmp_path, woken):
    waker = Waker([tmp_path / "absent"], woken.set)
    assert "found by polling" in waker.start()
    waker.stop()


def test_own_folder_and_local_sources_are_watched(write_config, tmp_path):
    patterns = {"train": f"{tmp_path}/in/{{SPAN}}/train", "eval": "gs://bucket/{SPAN}/eval"}
    changes = {"root": str(tmp_path / "root"), "ingest": {"source": {"kind": "tfrecord", "patterns": patterns}}}
    config = load_config(write_config(**changes))
    assert folders_to_watch(config) == (config.spans_path, tmp_path / "in")
