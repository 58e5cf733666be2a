"""Statistics made by TFDV from a few columns written out in a test."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl

Columns = Mapping[str, Sequence[Any]]


@pytest.fixture(scope="session")
def statistics_of() -> Callable[..., Any]:
    """Return a function from columns (text, int or float; None for no value, a list for several) to statistics."""

    def make(columns: Columns, *, num_rank_histogram_buckets: int = 10_000) -> Any:
        arrays = [pa.array([_values(value) for value in column], _type_of(column)) for column in columns.values()]
        batch = pa.RecordBatch.from_arrays(arrays, list(columns))
        return stats_impl.generate_statistics_in_memory(
            batch, tfdv.StatsOptions(num_rank_histogram_buckets=num_rank_histogram_buckets)
        )

    return make


def _values(value: Any) -> list[Any] | None:
    if value is None or isinstance(value, list):
        return value
    return [value.encode() if isinstance(value, str) else value]


def _type_of(column: Sequence[Any]) -> pa.DataType:
    first = next((value for value in column if value is not None), 0.0)
    first = first[0] if isinstance(first, list) else first
    kinds = {str: pa.binary(), bytes: pa.binary(), int: pa.int64(), float: pa.float32()}
    return pa.list_(kinds[type(first)])
