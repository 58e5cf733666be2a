"""The values of a few columns of serialized examples, and their labels."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from schemas.features import LabelSpec

# By column, each example's values: integers, floats or bytes; none where the column is missing.
Columns = Mapping[str, Sequence[Sequence[Any]]]


def read_columns(examples: Sequence[bytes], names: Iterable[str]) -> Columns:
    """Return the values of some columns.

    Args:
        examples: Serialized `tf.Example` records.
        names: The columns.

    Raises:
        DataError: a record is no `tf.Example`, or a column has values of two types.

    Example:
        >>> read_columns([b""], ["late"])
        {'late': [[]]}
    """
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    try:
        batch = ExamplesToRecordBatchDecoder().DecodeBatch(list(examples))
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"Records cannot be decoded: {error}. Expected serialized tf.Examples. Ingest the span again."
        ) from error
    there = set(batch.schema.names)
    empty: list[Any] = [[]] * len(examples)
    return {name: [row or [] for row in batch[name].to_pylist()] if name in there else empty for name in names}


def labels_of(values: Sequence[Sequence[Any]], label: LabelSpec) -> npt.NDArray[np.float64]:
    """Return the labels of examples as metrics take them, shape `(num_examples,)`.

    Args:
        values: Each example's values of the label's column.
        label: What they mean.

    Raises:
        DataError: an example has no label, several, or an unusable one.

    Example:
        >>> labels_of([[b"late"], [b"early"]], LabelSpec(name="is", task="multiclass", classes=("early", "late")))
        array([1., 0.])
    """
    number_of = cache(lambda *of_example: label.number_of(of_example))
    return np.array([number_of(*of_example) for of_example in values], np.float64)
