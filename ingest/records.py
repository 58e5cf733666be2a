"""Source columns become checked records: event time, key, typed features, and why a record is left out."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import DataError, SchemaError, did_you_mean
from ingest.columns import as_array, as_numpy, typed_column
from ingest.event_times import Times, parse_times
from ingest.sources import Source
from schemas.loader import FeatureType

# ASCII's unit separator: it keeps the keys ("a", "bc") and ("ab", "c") apart.
_KEY_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Records:
    """Checked records, in the source's order.

    Attributes:
        times: Event times in UTC, shape `(num_records,)`.
        keys: Key of each record, as text.
        features: One column per column of the schema, label included.
        reasons: Why a record is left out, shape `(num_records,)`; empty text where it is not.
    """

    times: Times
    keys: pa.Array
    features: pa.Table
    reasons: npt.NDArray[Any]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Records":
        """Return the records at which `chosen`, shape `(num_records,)`, is true."""
        mask = pa.array(chosen, pa.bool_())
        return Records(self.times[chosen], self.keys.filter(mask), self.features.filter(mask), self.reasons[chosen])

    def usable(self) -> "Records":
        """Return the records that are not left out."""
        return self.where(self.reasons == "")

    def by_span(self, numbers: npt.NDArray[np.int64]) -> Iterator[tuple[int, "Records"]]:
        """Yield the records of each span, upwards, given each record's span number, shape `(num_records,)`."""
        order = np.argsort(numbers, kind="stable")
        keys, features = self.keys.take(pa.array(order)), self.features.take(pa.array(order))
        spans, starts = np.unique(numbers[order], return_index=True)
        for span, start, stop in zip(spans, starts, np.append(starts, len(order))[1:], strict=True):
            rows = order[start:stop]
            count = len(rows)
            yield (
                int(span),
                Records(self.times[rows], keys.slice(start, count), features.slice(start, count), self.reasons[rows]),
            )

    def excluded(self) -> Counter[str]:
        """Return how many records are left out, by reason."""
        return Counter(str(reason) for reason in self.reasons if reason)

    def __len__(self) -> int:
        """Return the number of records, those left out included."""
        return len(self.times)


def read_records(
    source: Source,
    types: Mapping[str, FeatureType],
    *,
    label: str | None,
    label_required: bool,
    timezone: str,
) -> Records:
    """Read a whole source into memory and check it.

    Args:
        source: Where the records come from.
        types: Raw type of each column to keep, from the reviewed schema.
        label: Column of the label.
        label_required: Leave out records without a label.
        timezone: What times without an offset mean.

    Raises:
        SchemaError: the label is no column of the schema.
        DataError: a column is missing or has values of the wrong type, there is no record, or none has a label.
    """
    if label is not None and label not in types:
        raise SchemaError(
            f"Label column {label!r} is not in the schema. Expected one of {sorted(types)}. Add it to the schema, or "
            f"correct the config.{did_you_mean(label, types)}"
        )
    table = _read_table(source, types)
    reasons = np.full(table.num_rows, "", dtype=object)
    for name in source.key_columns:
        _leave_out(reasons, as_numpy(as_array(table[name]).is_null()), f"no value in key column {name}")
    columns = {}
    for name, feature_type in sorted(types.items()):
        typed = typed_column(name, as_array(table[name]), feature_type)
        columns[name] = typed.values
        for reason, rejected in typed.rejected.items():
            _leave_out(reasons, rejected, reason)
    if label is not None and label_required:
        unlabelled = as_numpy(columns[label].is_null())
        if unlabelled.all():
            raise DataError(
                f"None of the {len(unlabelled)} records has a value in label column {label!r}. Expected at least one "
                "label. Wait until labels have arrived, or name another label column in the config."
            )
        _leave_out(reasons, unlabelled, source.missing_label_reason)
    times = parse_times(source.time_column, as_array(table[source.time_column]), timezone)
    return Records(times, _keys(table, source.key_columns), pa.table(columns), reasons)


def _read_table(source: Source, types: Mapping[str, FeatureType]) -> pa.Table:
    wanted = list(dict.fromkeys([source.time_column, *source.key_columns, *types]))
    _check_columns(wanted, source.column_names())
    batches = list(source.read(wanted))
    if not sum(batch.num_rows for batch in batches):
        raise DataError(
            f"The source {source.describe()} has no records. Expected at least one. Check its path and its content."
        )
    try:
        return pa.Table.from_batches(batches)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"The files of the source {source.describe()} do not have the same column types. Expected one type per "
            f"column; received {str(error)!r}. Write the files again with the same types."
        ) from error


def _check_columns(wanted: Collection[str], present: Collection[str]) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        spare = [name for name in present if name not in wanted]
        raise DataError(
            f"The source lacks columns {missing}. Expected {sorted(wanted)}; received columns={sorted(present)}. "
            f"Rename the column in the source, or correct the schema or the config.{did_you_mean(missing[0], spare)}"
        )


def _leave_out(reasons: npt.NDArray[Any], rows: npt.NDArray[np.bool_], reason: str) -> None:
    """Note a reason for the rows that have none yet: each record is counted once."""
    reasons[rows & (reasons == "")] = reason


def _keys(table: pa.Table, key_columns: tuple[str, ...]) -> pa.Array:
    try:
        texts = [pc.fill_null(as_array(table[name]).cast(pa.string()), "") for name in key_columns]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"The key columns {list(key_columns)} cannot be written as text: {error}. Expected numbers, times or text. "
            "Name other `key_columns` in the config."
        ) from error
    return pc.binary_join_element_wise(*texts, _KEY_SEPARATOR)
