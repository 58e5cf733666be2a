"""Gives source columns the types of the reviewed schema. A value that cannot have its type fails the whole column."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import DataError
from schemas.loader import FeatureType

MAX_RENDERED_VALUES = 10

_WORDS: dict[FeatureType, str] = {"INT": "whole numbers", "FLOAT": "numbers", "BYTES": "text"}


@dataclass(frozen=True)
class TypedColumn:
    """A column as int64, float32 or binary (or lists of them), and the rows that cannot be used.

    Attributes:
        values: Typed values; null where the record has none.
        rejected: Rows to leave out by reason, each of shape `(num_rows,)`.
    """

    values: pa.Array
    rejected: dict[str, npt.NDArray[np.bool_]]


def typed_column(name: str, column: pa.Array, feature_type: FeatureType) -> TypedColumn:
    """Convert one column; NaN counts as missing, and a row with an infinite value is rejected.

    Raises:
        DataError: values that are no numbers, no whole numbers or no text, with their count and the first ones.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _typed_lists(name, column, feature_type)
    match feature_type:
        case "BYTES":
            return TypedColumn(_as_bytes(name, column), {})
        case "INT":
            return TypedColumn(_as_ints(name, column), {})
        case "FLOAT":
            return _as_floats(name, column)


def as_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of a table as one array."""
    chunks = column.chunks or [pa.array([], column.type)]
    return pa.concat_arrays(chunks)


def as_numpy(array: pa.Array) -> npt.NDArray[Any]:
    """Return an arrow array as numpy, copied if need be."""
    return cast("npt.NDArray[Any]", array.to_numpy(zero_copy_only=False))


def _typed_lists(name: str, column: pa.Array, feature_type: FeatureType) -> TypedColumn:
    lengths = as_numpy(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)
    flat = typed_column(name, column.flatten(), feature_type)
    row_of_value = np.repeat(np.arange(len(column)), lengths)
    reasons = dict(flat.rejected)
    # tf.Example has no place for "the second of three values is missing".
    reasons[f"missing value inside the list of {name}"] = as_numpy(flat.values.is_null())
    rejected = {reason: np.zeros(len(column), np.bool_) for reason in reasons}
    for reason, values in reasons.items():
        rejected[reason][row_of_value[values]] = True
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    return TypedColumn(pa.LargeListArray.from_arrays(offsets, flat.values), rejected)


def _as_bytes(name: str, column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_binary(kind) or pa.types.is_string(kind):
        return column.cast(pa.binary())
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.large_binary()).cast(pa.binary())
    raise _wrong_type(name, "BYTES", column, len(column) - column.null_count)


def _as_floats(name: str, column: pa.Array) -> TypedColumn:
    numbers, wrong = _numbers(name, column, "FLOAT")
    _refuse(name, "FLOAT", column, wrong)
    # Overflow of float32 becomes infinite here, and is rejected like an infinite source value.
    with np.errstate(over="ignore"):
        floats = numbers.astype(np.float32)
    # 0.0 is added so that -0.0 and 0.0, which are equal, are the same bytes.
    values = pa.array(floats + np.float32(0.0), pa.float32(), mask=np.isnan(floats))
    infinite = np.isinf(floats)
    return TypedColumn(values, {f"infinite value in {name}": infinite} if infinite.any() else {})


def _as_ints(name: str, column: pa.Array) -> pa.Array:
    try:
        # Exact for all of int64; the way through float64 below is not.
        if not pa.types.is_floating(column.type):
            return column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    numbers, wrong = _numbers(name, column, "INT")
    missing = np.isnan(numbers)
    # 2**53: the largest magnitude below which float64 holds every whole number.
    wrong |= ~missing & ((numbers != np.floor(numbers)) | (np.abs(numbers) > 2.0**53))
    _refuse(name, "INT", column, wrong)
    return pa.array(np.where(missing, 0.0, numbers).astype(np.int64), pa.int64(), mask=missing)


def _numbers(
    name: str, column: pa.Array, feature_type: FeatureType
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return float64 values with NaN for missing or unparsable, and which rows are unparsable."""
    import pandas as pd

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        parsed = pd.to_numeric(pd.Series(column.to_pylist(), dtype=object), errors="coerce")
        numbers = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = as_numpy(column.is_null()) | as_numpy(pc.equal(pc.utf8_lower(column), "nan").fill_null(False))
        return numbers, np.isnan(numbers) & ~missing
    try:
        numbers = as_numpy(column.cast(pa.float64(), safe=False)).astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _wrong_type(name, feature_type, column, len(column) - column.null_count) from error
    return numbers, np.zeros(len(column), np.bool_)


def _refuse(name: str, feature_type: FeatureType, column: pa.Array, wrong: npt.NDArray[np.bool_]) -> None:
    if wrong.any():
        raise _wrong_type(name, feature_type, column.filter(pa.array(wrong)), int(wrong.sum()))


def _wrong_type(name: str, feature_type: FeatureType, values: pa.Array, count: int) -> DataError:
    shown = values.drop_null().slice(0, MAX_RENDERED_VALUES).to_pylist()
    return DataError(
        f"Column {name!r} has {count} values of the wrong type. Expected {_WORDS[feature_type]}, since the schema says "
        f"{feature_type}; received {shown}. Correct the source or the column's type in the schema."
    )
