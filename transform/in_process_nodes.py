"""What the nodes of TensorFlow Transform's analysis graph compute, as its Beam stages do, on batches in this process.

A node that is not listed here is `unknown`, and Beam must run the analysis. How a graph is traced, read and written is
in `transform.in_process`.
"""

import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow_transform import analyzer_nodes, analyzers, nodes, tf_utils

Array = np.ndarray[Any, Any]
Token = bytes | int
Counted = tuple[float, Token]  # how often a token was seen, or its weight, and the token
# TensorFlow Transform has no public name for it.
_Ordering = analyzers._VocabOrderingType
_ACCUMULATES = (analyzer_nodes.CacheableCombineAccumulate, analyzer_nodes.VocabularyAccumulate)
_KNOWN = (
    *_ACCUMULATES,
    analyzer_nodes.TensorSource,
    analyzer_nodes.CacheableCombineMerge,
    analyzer_nodes.ExtractCombineMergeOutputs,
    analyzer_nodes.VocabularyMerge,
    analyzer_nodes.VocabularyPrune,
    analyzer_nodes.VocabularyCount,
    analyzer_nodes.ExtractVocabularyReservedTokens,
    analyzer_nodes.VocabularyOrderAndWrite,
)


class Fold(Protocol):
    """What an analyzer knows of the batches that it was given."""

    def add(self, *values: Array) -> None:
        """Take in one batch: the values of the analyzer's source tensors."""

    def result(self) -> Any:
        """Return the accumulator, as the analyzer's first Beam stage would hand it on."""


class CombinerFold:
    """Folds batches with the analyzer's own combiner: sums, moments, extremes, quantile sketches.

    Args:
        combiner: TensorFlow Transform's, or the user's.
    """

    def __init__(self, combiner: analyzer_nodes.Combiner) -> None:
        self._combiner = combiner
        self._accumulator = combiner.create_accumulator()

    def add(self, *values: Array) -> None:
        """Take in one batch."""
        self._accumulator = self._combiner.add_input(self._accumulator, values)

    def result(self) -> Any:
        """Return the combiner's accumulator, made small as Beam makes it before it moves it."""
        return self._combiner.compact(self._accumulator)


class VocabularyFold:
    """Counts tokens, or sums their weights."""

    def __init__(self) -> None:
        self._counts: dict[Token, float] = {}

    def add(self, *values: Array) -> None:
        """Take in one batch: tokens, and their weights if there are any."""
        counts = self._counts
        tokens, weights = (*values, np.ones(len(values[0]), int))[:2]
        for token, weight in zip(tokens.tolist(), weights.tolist(), strict=True):
            counts[token] = counts.get(token, 0) + weight

    def result(self) -> dict[Token, float]:
        """Return every token's count."""
        return self._counts


def operations_below(future: nodes.ValueNode) -> Iterator[nodes.OperationNode]:
    """Yield the operations that a value depends on, its own included; one that is needed twice comes twice."""
    yield future.parent_operation
    for value in future.parent_operation.inputs:
        yield from operations_below(value)


def source_tensors(future: nodes.ValueNode) -> Iterator[tf.Tensor]:
    """Yield the tensors of the graph that a value is analysed from."""
    for node in operations_below(future):
        if isinstance(node.operation_def, analyzer_nodes.TensorSource):
            yield from node.operation_def.tensors


def is_known(node: nodes.OperationNode) -> bool:
    """Say whether this module computes an operation, with its options and from such inputs."""
    operation = node.operation_def
    if isinstance(operation, _ACCUMULATES) and not _reads_examples(node):
        return False
    match operation:
        case analyzer_nodes.VocabularyAccumulate() | analyzer_nodes.VocabularyMerge():
            # The other orderings weigh tokens by their information on a label.
            return operation.vocab_ordering_type in (_Ordering.FREQUENCY, _Ordering.WEIGHTED_FREQUENCY)
        case analyzer_nodes.VocabularyPrune():
            return operation.key_fn is None
    return isinstance(operation, _KNOWN)


def new_folds(futures: Iterable[nodes.ValueNode]) -> dict[str, tuple[tuple[tf.Tensor, ...], Fold]]:
    """Return, by the label of the operation, what values need to know of the examples: of which tensors, and how."""
    folds: dict[str, tuple[tuple[tf.Tensor, ...], Fold]] = {}
    for future in futures:
        for node in operations_below(future):
            operation = node.operation_def
            if isinstance(operation, _ACCUMULATES) and operation.label not in folds:
                is_vocabulary = isinstance(operation, analyzer_nodes.VocabularyAccumulate)
                fold: Fold = VocabularyFold() if is_vocabulary else CombinerFold(operation.combiner)
                folds[operation.label] = (tuple(source_tensors(node.outputs[0])), fold)
    return folds


def _reads_examples(node: nodes.OperationNode) -> bool:
    parents = [value.parent_operation.operation_def for value in node.inputs]
    return len(parents) == 1 and isinstance(parents[0], analyzer_nodes.TensorSource)


class Interpreter(nodes.Visitor):
    """Computes the values of an analysis graph, once all batches are folded.

    Args:
        graph: The traced graph, for the reserved tokens of vocabularies.
        accumulators: What the batches were folded to, by the label of the operation.
        folder: Where vocabulary files are written.
    """

    def __init__(self, graph: tf.Graph, accumulators: Mapping[str, Any], folder: str) -> None:
        self._graph = graph
        self._accumulators = accumulators
        self._folder = folder

    def visit(self, operation_def: nodes.OperationDef, input_values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the outputs of one operation; TensorFlow Transform's traverser calls this with its inputs."""
        operation = operation_def
        match operation:
            case analyzer_nodes.TensorSource():
                return (None,)
            case analyzer_nodes.CacheableCombineAccumulate() | analyzer_nodes.VocabularyAccumulate():
                return (self._accumulators[operation.label],)
            case analyzer_nodes.CacheableCombineMerge():
                combiner = operation.combiner
                merged = combiner.merge_accumulators([combiner.create_accumulator(), *input_values])
                return (combiner.extract_output(merged),)
            case analyzer_nodes.ExtractCombineMergeOutputs():
                return tuple(input_values[0])
            case analyzer_nodes.VocabularyMerge():
                return ([(count, token) for token, count in input_values[0].items()],)
            case analyzer_nodes.VocabularyPrune():
                return (_pruned(operation, input_values[0]),)
            case analyzer_nodes.VocabularyCount():
                # An empty vocabulary is written with one token that stands for nothing.
                return (np.int64(max(len(input_values[0]), 1)),)
            case analyzer_nodes.ExtractVocabularyReservedTokens():
                return (tf_utils.fetch_vocabulary_reserved_tokens(self._graph, operation.name),)
            case analyzer_nodes.VocabularyOrderAndWrite():
                return (np.array(_write_vocabulary(operation, self._folder, *input_values)),)
        raise NotImplementedError(f"No implementation of {type(operation).__name__}; `is_known` says which there are.")

    def validate_value(self, value: Any) -> None:
        """Accept any value: TensorFlow Transform asks only where values are nodes."""


def _pruned(operation: analyzer_nodes.VocabularyPrune, counts: list[Counted]) -> list[Counted]:
    """Return the tokens that are frequent enough; in the order of a vocabulary if only the first were asked for."""
    if operation.frequency_threshold > 0:
        counts = [item for item in counts if item[0] >= operation.frequency_threshold]
    if operation.input_dtype != tf.string.name:
        counts = [(count, str(token).encode()) for count, token in counts]
    if operation.top_k is None:
        return counts
    return _or_dummy(heapq.nlargest(operation.top_k, counts), operation.input_dtype)


def _or_dummy(counts: list[Counted], dtype: str) -> list[Counted]:
    """Return the tokens, or the one that TensorFlow Transform writes since a lookup table must have a line."""
    return counts or [analyzers.get_empy_vocabulary_dummy_value(dtype)]


def _write_vocabulary(
    operation: analyzer_nodes.VocabularyOrderAndWrite,
    folder: str,
    counts: list[Counted],
    reserved: Iterable[bytes] | None = None,
) -> str:
    """Write the tokens in the order of their ids, reserved ones first, and return the path."""
    if reserved is not None:
        first = list(reserved)
        taken = set(first)
        counts = [(-1, token) for token in first] + _ordered(operation, [c for c in counts if c[1] not in taken])
    elif not operation.input_is_sorted:
        counts = _ordered(operation, counts)
    lines = [_line(operation, *item) for item in _or_dummy(counts, operation.input_dtype)]
    path = os.path.join(folder, operation.vocab_filename)
    if operation.file_format == "text":
        with open(path, "wb") as file:
            file.writelines(line + b"\n" for line in lines)
        return path
    with tf.io.TFRecordWriter(f"{path}.tfrecord.gz", "GZIP") as writer:
        for line in lines:
            writer.write(line)
    return f"{path}.tfrecord.gz"


def _ordered(operation: analyzer_nodes.VocabularyOrderAndWrite, counts: list[Counted]) -> list[Counted]:
    if operation.fingerprint_shuffle:
        return sorted(counts, key=lambda item: hashlib.sha1(item[1]).digest())  # type: ignore[arg-type]  # bytes by now
    return sorted(counts, reverse=True)


def _line(operation: analyzer_nodes.VocabularyOrderAndWrite, count: float, token: Token) -> bytes:
    line = tf.compat.as_bytes(token)
    return b"%s %s" % (str(count).encode(), line) if operation.store_frequency else line
