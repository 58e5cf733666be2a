"""One quick pass over the train split before training: every record readable, every label usable, how many there are.

Without it a corrupt file would surface in the middle of an epoch, as a TensorFlow error that names no file.
"""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from core.errors import DataError
from schemas.features import LabelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH_SIZE_EXAMPLES = 4096
MAX_RENDERED_VALUES = 10


def count_examples(files: tuple[str, ...], label: LabelSpec, dtype: tf.DType) -> int:
    """Return how many examples the files hold, after proving that a model can learn from them.

    Args:
        files: Gzipped TFRecord files.
        label: What the config says about the label.
        dtype: Type of the label's column in the schema.

    Raises:
        DataError: a file is corrupt; there are no examples; a label is missing, unusable, or the same everywhere.
    """
    labels: Counter[Any] = Counter()
    num_examples = 0
    for file in files:
        num_file_examples, file_labels = _read_labels(file, label, dtype)
        num_examples += num_file_examples
        num_labels = sum(file_labels.values())
        if num_labels != num_file_examples:
            raise DataError(
                f"File {file} has {num_file_examples} examples but {num_labels} labels. Expected one {label.name!r} "
                f"per example; received {num_file_examples - num_labels} without. "
                "Ingest the span again once its labels are known."
            )
        labels += file_labels
    if num_examples == 0:
        raise DataError(
            f"The train split is empty. Expected at least one example; received 0 in {len(files)} files. "
            "Choose a window with examples."
        )
    _check_labels(labels, label)
    return num_examples


def _read_labels(file: str, label: LabelSpec, dtype: tf.DType) -> tuple[int, Counter[Any]]:
    labels: Counter[Any] = Counter()
    num_examples = 0
    records = tf.data.TFRecordDataset(file, compression_type="GZIP").batch(_BATCH_SIZE_EXAMPLES)
    spec = {label.name: tf.io.VarLenFeature(dtype)}
    try:
        for serialized in records:
            batch = tf.io.parse_example(serialized, spec)[label.name]
            num_examples += int(batch.dense_shape[0])
            values, counts = np.unique(batch.values.numpy(), return_counts=True)
            labels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise DataError(
            f"File {file} cannot be read after {num_examples} examples. Expected gzipped TFRecords of tf.Example with "
            f"a label {label.name!r} of type {dtype.name}; received {error.message}. Ingest the span again."
        ) from error
    return num_examples, labels


def _check_labels(labels: Counter[Any], label: LabelSpec) -> None:
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "binary": (lambda value: value in (0, 1), "0 or 1"),
        "multiclass": (lambda value: _text(value) in label.classes, f"one of {list(label.classes)}"),
        "regression": (lambda value: math.isfinite(value), "a finite number"),
    }
    is_usable, rule = rules[label.task]
    unusable = {_text(value): count for value, count in labels.items() if not is_usable(value)}
    if unusable:
        shown = dict(list(unusable.items())[:MAX_RENDERED_VALUES])
        raise DataError(
            f"Label {label.name!r} has {sum(unusable.values())} values that a {label.task} model cannot learn. "
            f"Expected {rule}; received {shown}. Correct the source, or the label's task or classes in the config."
        )
    if label.task != "regression" and len(labels) < 2:
        raise DataError(
            f"Label {label.name!r} has one class only in {sum(labels.values())} examples. Expected at least two "
            f"classes; received {_text(next(iter(labels)))!r} everywhere. Widen the window or correct the source."
        )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
