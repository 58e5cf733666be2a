"""From records to spans on disk: laws about bytes and versions, and what each bad source leads to."""

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from core.errors import DataError, SchemaError
from ingest.ingestion import ingest
from ingest.manifests import list_spans, read_manifest, verify_span

ROOT = Path(__file__).parents[2]


def _spans(report: Any) -> list[tuple[int, int]]:
    return [(ref.span, ref.version) for ref in report]


def test_every_record_lands_once_in_the_span_of_its_day(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any, read_examples: Any
) -> None:
    import tensorflow as tf

    path = write_csv(tmp_path / "a.csv", make_rows(30))
    report = ingest(make_options(path), tmp_path / "spans", schema=schema)
    assert _spans(report.written) == [(1, 1), (2, 1), (3, 1)]
    assert sum(report.num_examples.values()) == report.num_records == 30
    counts = []
    for ref in report.written:
        manifest = read_manifest(tmp_path / "spans", ref.span, ref.version)
        verify_span(ref.folder(tmp_path / "spans"), manifest)
        for example in read_examples(ref.folder(tmp_path / "spans"), manifest):
            feature = tf.train.Example.FromString(example).features.feature
            counts.append((ref.span, feature["count"].int64_list.value[0] if "count" in feature else None))
    expected = [(1 + number // 10, None if number % 11 == 0 else number) for number in range(30)]
    assert sorted(counts, key=str) == sorted(expected, key=str)


def test_missing_values_are_absent_features(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any, read_examples: Any
) -> None:
    import tensorflow as tf

    row = make_rows(1)[0]
    rows = [row | {"id": f"r{number}"} for number in range(20)]
    report = ingest(make_options(write_csv(tmp_path / "a.csv", rows)), tmp_path / "spans", schema=schema)
    manifest = read_manifest(tmp_path / "spans", 1, 1)
    for example in read_examples(report.written[0].folder(tmp_path / "spans"), manifest):
        # Record 0 has no city, no count, and NaN for its size.
        assert sorted(tf.train.Example.FromString(example).features.feature) == ["label"]


def test_the_manifest_says_when_events_were_and_labels_are_complete(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows(10))
    ingest(make_options(path, label_delay_hours=48), tmp_path / "spans", schema=schema)
    manifest = read_manifest(tmp_path / "spans", 1, 1)
    assert manifest.event_time_min == datetime(2024, 1, 1, 0, 30, tzinfo=UTC)
    assert manifest.event_time_max == datetime(2024, 1, 1, 9, 30, tzinfo=UTC)
    assert manifest.label_complete_time == manifest.event_time_max + timedelta(hours=48)
    assert manifest.source["kind"] == "csv"


def test_ingesting_again_writes_nothing(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any, folder_bytes: Any
) -> None:
    options = make_options(write_csv(tmp_path / "a.csv", make_rows(30)))
    first = ingest(options, tmp_path / "spans", schema=schema)
    before = folder_bytes(tmp_path / "spans")
    second = ingest(options, tmp_path / "spans", schema=schema)
    assert second.written == ()
    assert second.unchanged == first.written
    assert second.num_examples == first.num_examples
    assert folder_bytes(tmp_path / "spans") == before


_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from ingest.ingestion import ingest
from schemas.ingestion import IngestOptions
schema = text_format.Parse(sys.argv[3], schema_pb2.Schema())
ingest(IngestOptions.model_validate_json(sys.argv[1]), Path(sys.argv[2]), schema=schema)
"""


def test_another_process_writes_the_same_bytes(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any, folder_bytes: Any
) -> None:
    options = make_options(write_csv(tmp_path / "a.csv", make_rows(30)))
    ingest(options, tmp_path / "here", schema=schema)
    command = [
        sys.executable,
        "-c",
        _IN_ANOTHER_PROCESS,
        options.model_dump_json(),
        str(tmp_path / "there"),
        str(schema),
    ]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert folder_bytes(tmp_path / "there") == folder_bytes(tmp_path / "here")


def _split_into_files(rows: list[Any], seed: int) -> Iterator[list[Any]]:
    generator = random.Random(seed)
    left = generator.sample(rows, len(rows))
    while left:
        size = generator.randint(1, len(left))
        yield left[:size]
        left = left[size:]


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_chunking_of_the_source_reaches_the_bytes(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any, folder_bytes: Any, seed: int
) -> None:
    rows = make_rows(40)
    write_csv(tmp_path / "whole" / "a.csv", rows)
    for number, part in enumerate(_split_into_files(rows, seed)):
        write_csv(tmp_path / "parts" / f"{number:02d}.csv", part)
    results = []
    for name in ("whole", "parts"):
        report = ingest(make_options(tmp_path / name / "*.csv"), tmp_path / f"spans-{name}", schema=schema)
        content = folder_bytes(tmp_path / f"spans-{name}")
        results.append((report.written, {path: b for path, b in content.items() if not path.endswith(".json")}))
    assert results[0] == results[1]


def test_parquet_gives_the_same_bytes_as_csv(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows(30))
    convert = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
    parquet.write_table(csv.read_csv(path, convert_options=convert), tmp_path / "a.parquet", row_group_size=7)
    from_csv = ingest(make_options(path), tmp_path / "csv", schema=schema)
    source = {"kind": "parquet", "path": str(tmp_path / "a.parquet"), "time_column": "time", "key_columns": ["id"]}
    from_parquet = ingest(make_options("", source=source), tmp_path / "parquet", schema=schema)
    assert from_parquet.written == from_csv.written


def test_lists_become_several_values(tmp_path: Path, schema: Any, make_options: Any, read_examples: Any) -> None:
    import tensorflow as tf

    table = pa.table(
        {
            "time": pa.array([datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in range(20)]),
            "id": pa.array(range(20)),
            "city": pa.array([["a", "b", "a"]] * 20),
            "count": pa.array([[1, 2]] * 20),
            "size": pa.array([[0.5]] * 20),
            "label": pa.array([1] * 20),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    source = {"kind": "parquet", "path": "a.parquet", "time_column": "time", "key_columns": ["id"]}
    report = ingest(make_options("", source=source), tmp_path / "spans", schema=schema, base=tmp_path)
    manifest = read_manifest(tmp_path / "spans", 1, 1)
    for example in read_examples(report.written[0].folder(tmp_path / "spans"), manifest):
        feature = tf.train.Example.FromString(example).features.feature
        assert list(feature["city"].bytes_list.value) == [b"a", b"b", b"a"]
        assert list(feature["count"].int64_list.value) == [1, 2]


def test_a_changed_span_gets_the_next_version_and_the_others_stay(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    rows = make_rows(30)
    path = write_csv(tmp_path / "a.csv", rows)
    first = ingest(make_options(path), tmp_path / "spans", schema=schema)
    rows[15] |= {"label": "1" if rows[15]["label"] == "0" else "0"}
    write_csv(path, rows)
    second = ingest(make_options(path), tmp_path / "spans", schema=schema)
    assert _spans(second.written) == [(2, 2)]
    assert _spans(second.unchanged) == [(1, 1), (3, 1)]
    assert list_spans(tmp_path / "spans").refs == (
        first.written[0],
        first.written[1],
        second.written[0],
        first.written[2],
    )


def test_a_damaged_span_gets_the_next_version(make_span: Any, schema: Any, make_options: Any, tmp_path: Path) -> None:
    folder, manifest = make_span()
    path = folder / manifest.files["train"][0].path
    path.write_bytes(path.read_bytes()[:-1])
    report = ingest(make_options(tmp_path / "source" / "one.csv"), tmp_path / "spans", schema=schema)
    assert _spans(report.written) == [(1, 2)]
    verify_span(report.written[0].folder(tmp_path / "spans"), read_manifest(tmp_path / "spans", 1, 2))


def test_a_span_is_held_back_until_the_source_reaches_beyond_it(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows(25))
    options = make_options(path, complete_before=None)
    report = ingest(options, tmp_path / "spans", schema=schema)
    assert _spans(report.written) == [(1, 1), (2, 1)]
    assert report.held_back == {3: 5}
    write_csv(path, make_rows(31))
    assert _spans(ingest(options, tmp_path / "spans", schema=schema).written) == [(3, 1)]


def test_asked_spans_alone_are_written(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    options = make_options(write_csv(tmp_path / "a.csv", make_rows(40)))
    seen: list[tuple[int, int, str]] = []
    report = ingest(
        options, tmp_path / "spans", schema=schema, spans=range(2, 4), on_progress=lambda *event: seen.append(event)
    )
    assert _spans(report.written) == [(2, 1), (3, 1)]
    assert seen == [
        (1, 2, "span 2 version 1: 10 examples, written"),
        (2, 2, "span 3 version 1: 10 examples, written"),
    ]
    with pytest.raises(DataError, match=r"none of the spans asked for. Expected spans among 1\.\.4; received 8\.\.9"):
        ingest(options, tmp_path / "spans", schema=schema, spans=range(8, 10))


def test_a_day_without_records_is_skipped_and_said_so(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    rows = [row for row in make_rows(30) if not row["time"].startswith("2024-01-02")]
    report = ingest(make_options(write_csv(tmp_path / "a.csv", rows)), tmp_path / "spans", schema=schema)
    assert report.skipped == {2: "it has no records"}


def test_a_span_too_small_for_two_splits_is_skipped(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    path = write_csv(tmp_path / "a.csv", make_rows(11))
    report = ingest(make_options(path), tmp_path / "spans", schema=schema)
    assert _spans(report.written) == [(1, 1)]
    assert "its 1 usable records leave the" in report.skipped[2]
    assert list_spans(tmp_path / "spans").unusable == {}


def test_left_out_records_are_counted_by_reason(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    rows = make_rows(10)
    rows += [
        rows[3],
        rows[0] | {"id": "u1", "label": ""},
        rows[0] | {"id": "u2", "size": "inf"},
        rows[0] | {"id": "", "size": "1"},
        rows[0] | {"id": "u3", "time": "2023-12-31T23:59:59Z"},
    ]
    report = ingest(make_options(write_csv(tmp_path / "a.csv", rows)), tmp_path / "spans", schema=schema)
    excluded = {
        "duplicate of another record": 1,
        "infinite value in size": 1,
        "no label": 1,
        "no value in key column id": 1,
    }
    assert read_manifest(tmp_path / "spans", 1, 1).excluded == excluded
    assert report.excluded == excluded | {"event before the first span": 1}
    assert sum(report.num_examples.values()) + sum(report.excluded.values()) == report.num_records == len(rows)


def test_unlabelled_records_stay_where_no_label_is_required(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    rows = [row | {"label": ""} for row in make_rows(10)]
    options = make_options(write_csv(tmp_path / "a.csv", rows), label_required=False)
    report = ingest(options, tmp_path / "spans", schema=schema)
    assert sum(report.num_examples.values()) == 10


@pytest.mark.parametrize(
    ("changes", "columns", "message"),
    [
        ({}, ("time", "id", "city", "count", "size"), r"lacks columns \['label'\]. Expected .*received columns="),
        ({}, ("time", "id", "town", "count", "size", "label"), r"lacks columns \['city'\]"),
        ({}, ("time", "id", "citty", "count", "size", "label"), r"Did you mean 'citty'\?"),
        ({"label": ""}, None, r"None of the 10 records has a value in label column 'label'"),
        ({"time": "yesterday"}, None, r"'time' has 10 values that are no time"),
        ({"count": "many"}, None, r"Column 'count' has 10 values of the wrong type. Expected whole numbers"),
        ({"size": "big"}, None, r"Column 'size' has 10 values of the wrong type. Expected numbers"),
    ],
    ids=["no label column", "no feature column", "misspelt", "no label", "no time", "text for int", "text for float"],
)
def test_a_source_that_does_not_fit_the_schema_is_refused(
    tmp_path: Path,
    schema: Any,
    make_rows: Any,
    write_csv: Any,
    make_options: Any,
    changes: dict[str, str],
    columns: Sequence[str] | None,
    message: str,
) -> None:
    rows = [row | changes | {"town": "x", "citty": "x"} for row in make_rows(10)]
    path = write_csv(tmp_path / "a.csv", rows, columns) if columns else write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(DataError, match=message):
        ingest(make_options(path), tmp_path / "spans", schema=schema)
    assert not (tmp_path / "spans").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"No source file matches .*\*.csv"),
        ({"a.csv": b"time,id,city,count,size,label\n"}, "has no records"),
        ({"a.csv": b""}, "cannot be read. Expected UTF-8 text, a header line"),
        ({"a.csv": b"time,id,city,count,size,label\n1,2\n"}, "the same number of cells in every line"),
        ({"a.csv": b"time,id,city,count,size,label\n2024-01-01,1,\xff\xfe,1,1,1\n"}, "Expected UTF-8 text"),
        ({"a.csv": b"time,id\n", "b.csv": b"time,key\n"}, r"'b.csv' has other columns than 'a.csv'"),
        ({"a.csv": b"time,id,id\n"}, r"has columns \['id'\] more than once"),
    ],
    ids=["no file", "no records", "empty file", "ragged", "no UTF-8", "files disagree", "column twice"],
)
def test_unreadable_csv_is_refused(
    tmp_path: Path, schema: Any, make_options: Any, files: dict[str, bytes], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        ingest(make_options("*.csv"), tmp_path / "spans", schema=schema, base=tmp_path)


def test_unreadable_parquet_is_refused(tmp_path: Path, schema: Any, make_options: Any) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    source = {"kind": "parquet", "path": "*.parquet", "time_column": "time", "key_columns": ["id"]}
    with pytest.raises(DataError, match=r"Parquet file .*cannot be read. Expected a complete Parquet file"):
        ingest(make_options("", source=source), tmp_path / "spans", schema=schema, base=tmp_path)


def test_events_all_before_the_origin_are_refused(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    options = make_options(write_csv(tmp_path / "a.csv", make_rows(10)), origin=date(2025, 1, 1))
    with pytest.raises(DataError, match="none, all events are before `origin` or in the future; received all"):
        ingest(options, tmp_path / "spans", schema=schema)


def test_a_clock_that_is_ahead_does_not_complete_the_spans(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    rows = make_rows(25)
    rows.append(rows[0] | {"id": "ahead", "time": "9999-12-31T23:59:59Z"})
    rows.append(rows[0] | {"id": "behind", "time": "0001-01-01T00:00:00Z"})
    options = make_options(write_csv(tmp_path / "a.csv", rows), complete_before=None)
    report = ingest(options, tmp_path / "spans", schema=schema, now=datetime(2024, 1, 4, tzinfo=UTC))
    assert _spans(report.written) == [(1, 1), (2, 1)]
    assert report.held_back == {3: 5}
    assert report.excluded == {"event before the first span": 1, "event in the future": 1}


def test_a_label_that_is_not_in_the_schema_is_refused(
    tmp_path: Path, schema: Any, make_rows: Any, write_csv: Any, make_options: Any
) -> None:
    options = make_options(write_csv(tmp_path / "a.csv", make_rows(10)), label_column="lable")
    with pytest.raises(SchemaError, match=r"Label column 'lable' is not in the schema. .*Did you mean 'label'\?"):
        ingest(options, tmp_path / "spans", schema=schema)


@pytest.mark.parametrize(
    ("keys", "counts", "message"),
    [
        ([b"\xff", b"a"], [1, 2], "cannot be written as text"),
        ([1, 2], ["1", "2"], "do not have the same column types"),
    ],
    ids=["key is no text", "types differ between files"],
)
def test_parquet_that_cannot_be_joined_is_refused(
    tmp_path: Path, schema: Any, make_options: Any, keys: list[Any], counts: list[Any], message: str
) -> None:
    columns = {"time": ["2024-01-01", "2024-01-01"], "city": ["a", "b"], "size": [0.5, 0.5], "label": [0, 1]}
    parquet.write_table(pa.table(columns | {"id": keys, "count": counts}), tmp_path / "a.parquet")
    parquet.write_table(pa.table(columns | {"id": keys, "count": [1, 2]}), tmp_path / "b.parquet")
    source = {"kind": "parquet", "path": "*.parquet", "time_column": "time", "key_columns": ["id"]}
    with pytest.raises(DataError, match=message):
        ingest(make_options("", source=source), tmp_path / "spans", schema=schema, base=tmp_path)
