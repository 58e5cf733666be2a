import logging
import os
from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from monitoring.statistics_cache import StatisticsCache, entry_name


@pytest.fixture
def statistics() -> dict[str, Any]:
    return {
        split: statistics_pb2.DatasetFeatureStatistics(name=split, num_examples=count)
        for split, count in (("train", 4), ("eval", 1))
    }


def test_entry_is_read_as_it_was_written(tmp_path: Path, statistics: dict[str, Any]) -> None:
    StatisticsCache(tmp_path / "statistics").write("a", statistics)
    assert StatisticsCache(tmp_path / "statistics").read("a") == statistics


def test_there_is_nothing_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert StatisticsCache(tmp_path / "statistics").read("a") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "not gzip"])
def test_damaged_entry_counts_as_none(tmp_path: Path, statistics: dict[str, Any], damage: str) -> None:
    cache = StatisticsCache(tmp_path)
    cache.write("a", statistics)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    flipped = bytes([*content[:-9], content[-9] ^ 1, *content[-8:]])
    path.write_bytes({"cut": content[:-3], "flipped": flipped, "emptied": b"", "not gzip": b"statistics"}[damage])
    assert not cache.read("a")
    cache.write("a", statistics)
    assert cache.read("a") == statistics


def test_folder_that_cannot_be_written_is_left_alone(
    tmp_path: Path, statistics: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    caplog.set_level(logging.WARNING, "monitoring.statistics_cache")
    cache = StatisticsCache(tmp_path / "file" / "statistics")
    cache.write("a", statistics)
    assert cache.read("a") is None
    assert "cannot be kept" in caplog.text


def test_least_recently_used_entry_leaves(tmp_path: Path, statistics: dict[str, Any]) -> None:
    cache = StatisticsCache(tmp_path, max_entries=2)
    for seconds, name in enumerate("ab", 1):
        cache.write(name, statistics)
        os.utime(tmp_path / f"{name}.pb.gz", (seconds, seconds))
    assert cache.read("a")
    cache.write("c", statistics)
    assert {path.name for path in tmp_path.iterdir()} == {"a.pb.gz", "c.pb.gz"}


def test_name_is_of_all_that_shapes_the_statistics() -> None:
    schema = schema_pb2.Schema(feature=[schema_pb2.Feature(name="a")])
    names = {
        entry_name("ab", schema, "in_process"),
        entry_name("cd", schema, "in_process"),
        entry_name("ab", schema_pb2.Schema(), "in_process"),
        entry_name("ab", schema, "beam"),
    }
    assert len(names) == 4
    assert entry_name("ab", schema, "beam") in names
