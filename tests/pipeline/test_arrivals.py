"""Discovery finds each version of a span once, whoever writes it and however slowly."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from core.errors import UnavailableError
from ingest.inbox import MEMORY_NAME
from pipeline.arrivals import Discovery, Findings
from pipeline.config import Config, load_config
from schemas.ledger_records import SpanArrival
from schemas.spans import MANIFEST_NAME, SPLITS, Manifest, SpanFile, span_folder

FILES_ARE_OLD = datetime(2100, 1, 1, tzinfo=UTC)
FILES_ARE_NEW = datetime(1980, 1, 1, tzinfo=UTC)


@pytest.fixture
def config(write_config: Callable[..., Path], tmp_path: Path) -> Config:
    """Return the config of a pipeline whose spans are written straight into its folder."""
    return load_config(write_config(root=str(tmp_path / "root")))


@pytest.fixture
def write_manifest(config: Config) -> Callable[..., Path]:
    """Write a span's manifest (its files are nobody's business here) and return its path."""

    def write(span: int, version: int = 1, sha256: str = "a", **fields: Any) -> Path:
        folder = span_folder(config.spans_path, span, version)
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            split: (SpanFile(path=f"Split-{split}/e.gz", sha256=sha256, num_bytes=1, num_examples=5),)
            for split in SPLITS
        }
        manifest = Manifest(span=span, version=version, files=files, **fields)
        path = folder / MANIFEST_NAME
        path.write_text(manifest.model_dump_json())
        return path

    return write


class Register:
    """A ledger that remembers what it was told, and can be away."""

    def __init__(self) -> None:
        self.arrivals: list[SpanArrival] = []
        self.is_away = False

    def register_spans(self, arrivals: Iterable[SpanArrival]) -> int:
        if self.is_away:
            raise UnavailableError("The ledger is away.")
        self.arrivals += arrivals
        return len(self.arrivals)


def _names(findings: Findings) -> list[str]:
    return [f"{arrival.ref.span}v{arrival.ref.version}" for arrival in findings.arrivals]


def test_each_version_is_found_once(config: Config, write_manifest: Callable[..., Path]) -> None:
    register, discovery = Register(), Discovery(config)
    assert discovery.register(register) == Findings()
    write_manifest(10)
    write_manifest(2)
    assert _names(discovery.register(register)) == ["2v1", "10v1"]
    write_manifest(2, version=2)
    assert _names(discovery.register(register)) == ["2v2"]
    assert discovery.register(register) == Findings()
    assert [arrival.num_examples for arrival in register.arrivals] == [10, 10, 10]


def test_what_the_ledger_could_not_take_is_found_again(config: Config, write_manifest: Callable[..., Path]) -> None:
    register, discovery = Register(), Discovery(config)
    write_manifest(1)
    register.is_away = True
    for _ in range(2):
        with pytest.raises(UnavailableError):
            discovery.register(register)
    register.is_away = False
    assert _names(discovery.register(register)) == ["1v1"]
    assert discovery.look().arrivals == ()


def test_a_manifest_is_read_once(config: Config, write_manifest: Callable[..., Path]) -> None:
    path = write_manifest(1)
    discovery = Discovery(config)
    discovery.register(Register())
    before = path.stat()
    path.write_text(" " * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert discovery.look() == Findings()


def test_a_changed_manifest_is_an_arrival(config: Config, write_manifest: Callable[..., Path]) -> None:
    write_manifest(1)
    discovery = Discovery(config)
    discovery.register(Register())
    write_manifest(1, sha256="another")
    assert _names(discovery.look()) == ["1v1"]


def test_a_half_written_manifest_is_an_arrival_when_it_is_whole(
    config: Config, write_manifest: Callable[..., Path]
) -> None:
    path = write_manifest(7)
    whole = path.read_text()
    discovery = Discovery(config)
    path.unlink()
    assert "has no manifest.json" in discovery.look().unusable[7]
    path.write_text(whole[: len(whole) // 2])
    findings = discovery.look()
    assert findings.arrivals == ()
    assert "has an unreadable manifest" in findings.unusable[7]
    path.write_text(whole)
    findings = discovery.look()
    assert (_names(findings), findings.unusable) == (["7v1"], {})


def test_only_the_newest_version_makes_a_span_unusable(config: Config, write_manifest: Callable[..., Path]) -> None:
    write_manifest(3, version=1).write_text("broken")
    write_manifest(3, version=2)
    write_manifest(4, version=1)
    write_manifest(4, version=2).write_text("broken")
    findings = Discovery(config).look()
    assert _names(findings) == ["3v2", "4v1"]
    assert list(findings.unusable) == [4]


def test_a_span_that_goes_away_is_forgotten(config: Config, write_manifest: Callable[..., Path]) -> None:
    discovery = Discovery(config)
    write_manifest(1).write_text("broken")
    assert list(discovery.look().unusable) == [1]
    shutil.rmtree(config.spans_path)
    assert discovery.look() == Findings()
    write_manifest(1)
    assert _names(discovery.look()) == ["1v1"]


def test_times_reach_the_ledger_in_utc(config: Config, write_manifest: Callable[..., Path]) -> None:
    write_manifest(1, label_complete_time=datetime(2026, 1, 2, 3), event_time_max=datetime(2026, 1, 1, tzinfo=UTC))
    (arrival,) = Discovery(config).look().arrivals
    assert arrival.label_complete_time == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert arrival.event_time_max == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def record_bytes() -> Callable[[bytes], bytes]:
    """Return a TFRecord file of one record, by the framing in `ingest.tfrecords`."""

    def make(data: bytes) -> bytes:
        import struct

        import google_crc32c

        def masked(content: bytes) -> bytes:
            crc = google_crc32c.value(content)
            return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

        length = struct.pack("<Q", len(data))
        return length + masked(length) + data + masked(data)

    return make


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the folder that somebody else writes into."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def adopting(write_config: Callable[..., Path], tmp_path: Path, source: Path) -> Config:
    """Return the config of a pipeline that adopts the spans of `source`."""
    patterns = {split: f"{source}/{{SPAN}}-{split}" for split in SPLITS}
    ingest = {"source": {"kind": "tfrecord", "patterns": patterns}}
    return load_config(write_config(root=str(tmp_path / "root"), ingest=ingest))


def _write_source(source: Path, content: bytes, span: int = 5, splits: Iterable[str] = SPLITS) -> None:
    for split in splits:
        (source / f"{span}-{split}").write_bytes(content)


def test_a_source_is_adopted_when_it_has_all_splits(
    adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]
) -> None:
    discovery = Discovery(adopting)
    assert discovery.look() == Findings()
    _write_source(source, record_bytes(b"one"), splits=["train"])
    findings = discovery.look()
    assert findings.arrivals == ()
    assert "Span 5 is not whole yet: it has no file of eval" in findings.unusable[5]
    _write_source(source, record_bytes(b"one"), splits=["eval"])
    assert _names(discovery.register(Register())) == ["5v1"]
    assert discovery.look() == Findings()


def test_a_changed_source_is_the_next_version(
    adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]
) -> None:
    discovery = Discovery(adopting)
    for content, names in ((b"one", ["5v1"]), (b"three", ["5v2"])):
        _write_source(source, record_bytes(content))
        assert _names(discovery.register(Register())) == names


def test_a_broken_file_waits_for_another_and_stops_no_other_span(
    adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]
) -> None:
    discovery = Discovery(adopting)
    _write_source(source, record_bytes(b"one")[:-3])
    _write_source(source, record_bytes(b"two"), span=6)
    for names in (["6v1"], []):
        findings = discovery.register(Register())
        assert _names(findings) == names
        assert "is damaged" in findings.unusable[5]
    _write_source(source, record_bytes(b"one"))
    findings = discovery.look()
    assert (_names(findings), findings.unusable) == (["5v1"], {})


def test_files_that_may_still_grow_wait_until_two_looks_agree(
    adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]
) -> None:
    discovery = Discovery(adopting, clock=ManualClock(FILES_ARE_NEW), settle_seconds=5)
    _write_source(source, record_bytes(b"one"))
    assert (discovery.look().num_settling, discovery.look().num_settling) == (1, 0)
    _write_source(source, record_bytes(b"one") * 2)
    assert discovery.look().num_settling == 1
    _write_source(source, record_bytes(b"one") * 3)
    assert discovery.look().num_settling == 1
    assert _names(discovery.look()) == ["5v1", "5v2"]


def test_old_files_are_adopted_at_once(adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]) -> None:
    _write_source(source, record_bytes(b"one"))
    discovery = Discovery(adopting, clock=ManualClock(FILES_ARE_OLD), settle_seconds=5)
    assert _names(discovery.look()) == ["5v1"]


def test_a_restart_reads_no_file_again(adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]) -> None:
    _write_source(source, record_bytes(b"one"))
    Discovery(adopting).look()
    ((span, version, _, adopted),) = json.loads((adopting.spans_path / MEMORY_NAME).read_text())
    assert (span, version, adopted) == (5, 1, 1)
    # Other content of the same time and size would be version 2, if anybody read it.
    for split in SPLITS:
        path = source / f"5-{split}"
        before = path.stat()
        path.write_bytes(record_bytes(b"two"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _names(Discovery(adopting).look()) == ["5v1"]


@pytest.mark.parametrize("content", ["", "[[1]]", "{}", "[1, 2]"])
def test_a_broken_memory_costs_only_time(
    adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes], content: str
) -> None:
    _write_source(source, record_bytes(b"one"))
    Discovery(adopting).look()
    (adopting.spans_path / MEMORY_NAME).write_text(content)
    assert _names(Discovery(adopting).look()) == ["5v1"]


def test_a_span_that_was_removed_is_adopted_again(
    adopting: Config, source: Path, record_bytes: Callable[[bytes], bytes]
) -> None:
    _write_source(source, record_bytes(b"one"))
    Discovery(adopting).look()
    shutil.rmtree(span_folder(adopting.spans_path, 5, 1))
    assert _names(Discovery(adopting).look()) == ["5v1"]
