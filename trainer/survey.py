"""One quick pass over the train split before training: every record readable, every label usable, all tokens counted.

Without it a corrupt file would surface in the middle of an epoch, as a TensorFlow error that names no file. What was
read can be kept, so that a small split is read once only.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from core.errors import DataError
from records.reading import serialized_batches
from schemas.analysis import token_text
from schemas.features import FeatureSet, LabelSpec, VocabularyFeature

if TYPE_CHECKING:
    from collections.abc import Callable

Records = NDArray[np.object_]
MAX_RENDERED_VALUES = 10


@dataclass(frozen=True)
class Survey:
    """What stands in the train split.

    Attributes:
        num_examples: Examples in all files.
        token_counts: By vocabulary feature, how often each token stands in the values that the transform graph uses;
            tokens as `schemas.analysis.token_text` writes them.
        records: Serialized examples per file, shape `(num_file_examples,)`; None where they are too many to keep.
    """

    num_examples: int
    token_counts: dict[str, Counter[str]]
    records: tuple[Records, ...] | None = field(default=None, compare=False, repr=False)


def survey_examples(
    files: tuple[str, ...], feature_set: FeatureSet, raw_types: Mapping[str, tf.DType], *, max_kept: int = 0
) -> Survey:
    """Return what the files hold, after proving that a model can learn from them.

    Args:
        files: Gzipped TFRecord files.
        feature_set: Which column is the label and which are vocabulary features. With a user's `preprocessing_fn` no
            tokens are counted: its features need be no columns.
        raw_types: Types of the raw columns.
        max_kept: Most examples whose records are kept.

    Raises:
        DataError: a file is corrupt; there are no examples; a label is missing, unusable, or the same everywhere.
    """
    label = feature_set.label
    widths = _token_widths(feature_set)
    types = {name: raw_types[name] for name in (label.name, *widths)}
    counts: dict[str, Counter[Any]] = {name: Counter() for name in types}
    num_examples = 0
    kept: list[Records] = []
    for file in files:
        records, num_file_examples, file_counts = _read_file(file, label, types, widths, max_kept - num_examples)
        num_examples += num_file_examples
        kept += [records] if num_examples <= max_kept else []
        num_labels = file_counts[label.name].total()
        if num_labels != num_file_examples:
            raise DataError(
                f"File {file} has {num_file_examples} examples but {num_labels} labels. Expected one {label.name!r} "
                f"per example; received {num_file_examples - num_labels} without. "
                "Ingest the span again once its labels are known."
            )
        for name, values in file_counts.items():
            counts[name].update(values)
    if num_examples == 0:
        raise DataError(
            f"The train split is empty. Expected at least one example; received 0 in {len(files)} files. "
            "Choose a window with examples."
        )
    _check_labels(counts[label.name], label)
    tokens = {name: _as_tokens(counts[name]) for name in widths}
    return Survey(num_examples, tokens, tuple(kept) if num_examples <= max_kept else None)


def _token_widths(feature_set: FeatureSet) -> dict[str, int]:
    """Return how many values of each vocabulary column are used, by name."""
    if feature_set.preprocessing_fn is not None:
        return {}
    return {
        name: spec.max_values if spec.multivalued else 1
        for name, spec in feature_set.features.items()
        if isinstance(spec, VocabularyFeature)
    }


def _read_file(
    file: str, label: LabelSpec, types: Mapping[str, tf.DType], widths: Mapping[str, int], max_kept: int
) -> tuple[Records, int, dict[str, Counter[Any]]]:
    """Return a file's records, all or some, their number, and how often each raw value of each column stands there."""
    counts: dict[str, Counter[Any]] = {name: Counter() for name in types}
    num_examples = 0
    kept: list[Records] = [np.empty(0, dtype=object)]
    spec = {name: tf.io.VarLenFeature(dtype) for name, dtype in types.items()}
    try:
        for serialized in serialized_batches([Path(file)]):
            batch = tf.io.parse_example(serialized, spec)
            num_examples += len(serialized)
            kept += [serialized] if num_examples <= max_kept else []
            for name, column in batch.items():
                values = column.values.numpy()
                if name in widths:
                    values = values[column.indices.numpy()[:, 1] < widths[name]]
                counts[name].update(_count(values))
    except tf.errors.InvalidArgumentError as error:
        columns = ", ".join(f"{name!r} of type {dtype.name}" for name, dtype in types.items() if name != label.name)
        raise DataError(
            f"File {file} cannot be read after {num_examples} examples. Expected gzipped TFRecords of tf.Example with "
            f"a label {label.name!r} of type {types[label.name].name}{columns and f' and columns {columns}'}; "
            f"received {error.message}. Ingest the span again."
        ) from error
    return np.concatenate(kept), num_examples, counts


def _count(values: Any) -> dict[Any, int]:
    """Count the values of a column, shape `(num_values,)`."""
    if values.dtype == object:  # bytes, which NumPy can only sort
        return Counter(values.tolist())
    unique, counts = np.unique(values, return_counts=True)  # takes NaNs for equal
    return dict(zip(unique.tolist(), counts.tolist(), strict=True))


def _as_tokens(values: Counter[Any]) -> Counter[str]:
    """Return raw values as the tokens of the transform graph, without those that no vocabulary can hold."""
    raw = {value if isinstance(value, bytes) else str(value).encode(): count for value, count in values.items()}
    # TensorFlow Transform leaves these out as well: a vocabulary is a text file with a token a line.
    return Counter(
        {token_text(token): n for token, n in raw.items() if token and b"\n" not in token and b"\r" not in token}
    )


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
