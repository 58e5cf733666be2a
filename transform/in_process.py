"""TensorFlow Transform's analysis in this process, without Beam: tracing, passes over the examples, writing.

Tracing, combiners and writing are TensorFlow Transform's own; only what moves batches from one to the next is ours.
What each node of the analysis computes is in `transform.in_process_nodes`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import wrap_function
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import (
    TFTransformOutput,
    analyzer_nodes,
    annotators,
    graph_context,
    graph_tools,
    impl_helper,
    nodes,
    tf2_utils,
)
from tensorflow_transform.saved import saved_transform_io_v2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

from records.reading import record_batches
from transform.in_process_nodes import Fold, Interpreter, is_known, new_folds, operations_below, source_tensors
from transform.raw_tensors import RawTensor

PreprocessingFn = Callable[[dict[str, RawTensor]], dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Findings:
    """What the analyzers found.

    Attributes:
        values: The values of analyzers' outputs, by the name that the output has in the traced graph; of a vocabulary,
            the path of its file.
        num_read: How many examples each pass over them read; nothing if no analyzer reads any.
    """

    values: dict[str, tf.Tensor] = field(default_factory=dict)
    num_read: list[int] = field(default_factory=list)


class InProcessTransform:
    """A traced `preprocessing_fn`, to be analysed and written.

    An analyzer may depend on what another found. So the examples are read in passes: each computes the analyzers whose
    inputs are known, and the function is traced again with their results in place.

    Args:
        function: Raw columns of a batch to transformed ones; TensorFlow Transform's `preprocessing_fn`.
        schema: Of the raw examples.
        folder: Where temporary files may be written, which are needed until the graph is.
    """

    def __init__(self, function: PreprocessingFn, schema: schema_pb2.Schema, folder: Path) -> None:
        self._function = function
        self._schema = schema
        self._specs = _adapter(schema).OriginalTypeSpecs()
        self._folder = str(folder)
        self._traced = _Traced(function, self._specs, self._folder, {})

    @property
    def unknown_nodes(self) -> list[str]:
        """Labels of the operations that only Beam can run; with any of them, `analyse` must not be called."""
        operations = [node for sink in self._traced.sinks for node in operations_below(sink.future)]
        return sorted({node.operation_def.label for node in operations if not is_known(node)})

    def analyse(self, files: Sequence[Path]) -> Findings:
        """Read examples as often as the analyzers need, and return what they found.

        Args:
            files: Gzipped TFRecord files of `tf.Example`.

        Raises:
            DataError: a file is damaged.
        """
        findings = Findings()
        traced = self._traced
        while traced.sinks:
            ready = traced.ready_sinks()
            folds = new_folds(sink.future for sink in ready)
            findings.num_read.append(traced.read(files, self._schema, list(folds.values())))
            accumulators = {label: fold.result() for label, (_, fold) in folds.items()}
            traverser = nodes.Traverser(Interpreter(traced.graph, accumulators, self._folder))
            for sink in ready:
                value = traverser.visit_value_node(sink.future)
                findings.values[sink.tensor.name] = tf.constant(value, sink.tensor.dtype)
            if len(ready) == len(traced.sinks):
                break
            traced = _Traced(self._function, self._specs, self._folder, findings.values)
        return findings

    def write(self, findings: Findings, target: Path) -> None:
        """Write the graph as `tft.TFTransformOutput` reads it.

        Args:
            findings: What `analyse` returned.
            target: Folder of the TransformGraph artifact.
        """
        graph, folder = self._traced.graph, target / TFTransformOutput.TRANSFORM_FN_DIR
        fingerprint = graph_tools.get_analyzers_fingerprint(graph, self._traced.inputs)
        impl_helper.trace_and_write_v2_saved_model(
            str(folder), self._function, self._specs, self._folder, fingerprint, findings.values, {}, None
        )
        metadata_folder = target / TFTransformOutput.TRANSFORMED_METADATA_DIR
        (folder / impl_helper.METADATA_DIR_NAME).rename(metadata_folder)
        assets = annotators.get_asset_annotations(graph)
        if assets:
            (metadata_folder / TFTransformOutput.ASSET_MAP).write_text(json.dumps(assets))
        raw_metadata = dataset_metadata.DatasetMetadata(self._schema)
        metadata_io.write_metadata(raw_metadata, str(target / TFTransformOutput.RAW_METADATA_DIR))


class _Traced:
    """The function, traced with what is found already in place.

    Attributes:
        graph: Its graph.
        inputs: The graph's inputs by column.
        sinks: The analyzers' outputs that are not found yet.
    """

    def __init__(
        self,
        function: PreprocessingFn,
        specs: Mapping[str, tf.TypeSpec],
        folder: str,
        found: Mapping[str, tf.Tensor],
    ) -> None:
        if found:
            # Keeps the lookup tables alive that a vocabulary, found before, is looked up in.
            self._module = tf.Module()
            context = graph_context.TFGraphContext(self._module, folder, found)
            traced = impl_helper.get_traced_transform_fn(function, specs, context)
            self.graph = saved_transform_io_v2.trace_and_update_module(
                self._module, traced, "transform_fn", False
            ).graph
            self.inputs = tf2_utils.get_structured_inputs_from_func_graph(self.graph)
        else:
            self.graph, self.inputs, _ = impl_helper.trace_preprocessing_function(function, specs, False, folder)
        self.sinks: list[analyzer_nodes.TensorSink] = self.graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)

    def ready_sinks(self) -> list[analyzer_nodes.TensorSink]:
        """Return the sinks that depend on no other."""
        unknown = [(sink.tensor, False) for sink in self.sinks]
        analyzer = graph_tools.InitializableGraphAnalyzer(self.graph, self.inputs, unknown)
        return [s for s in self.sinks if all(map(analyzer.ready_to_run, source_tensors(s.future)))]

    def read(
        self, files: Sequence[Path], schema: schema_pb2.Schema, folds: Sequence[tuple[tuple[tf.Tensor, ...], Fold]]
    ) -> int:
        """Fold all examples, batch by batch, each of the named tensors; return how many examples there were."""
        fetches = [tensor for tensors, _ in folds for tensor in tensors]
        columns = graph_tools.get_dependent_inputs(self.graph, self.inputs, fetches)
        # Only what is analysed is decoded: another column may lack values that its tensor must have.
        projected = _projected(schema, columns)
        adapter = _adapter(projected)
        function = self._pruned(columns, [tensors for tensors, _ in folds])
        num_read = 0
        for batch in record_batches(files, projected):
            inputs = adapter.ToBatchTensors(batch, produce_eager_tensors=True)
            values = function(*tf.nest.flatten({name: inputs[name] for name in columns}, expand_composites=True))
            for (_, fold), tensors in zip(folds, values, strict=True):
                fold.add(*(np.asarray(tensor) for tensor in tensors))
            num_read += batch.num_rows
        return num_read

    def _pruned(self, columns: Mapping[str, RawTensor], fetches: list[tuple[tf.Tensor, ...]]) -> Callable[..., Any]:
        """Return the part of the graph that computes `fetches` from the components of `columns`."""
        variables = wrap_function.VariableHolder(share_variables=True)
        whole = wrap_function.WrappedFunction(self.graph, variable_holder=variables)
        return cast("Callable[..., Any]", whole.prune(tf.nest.flatten(columns, expand_composites=True), fetches))


def _projected(schema: schema_pb2.Schema, columns: Iterable[str]) -> schema_pb2.Schema:
    """Return the schema of some of the tensors alone, and of what they are made of."""
    explicit = schema_pb2.Schema()
    explicit.CopyFrom(schema)
    representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
    tensor_representation_util.SetTensorRepresentationsInSchema(explicit, representations)
    return tensor_representation_util.ProjectTensorRepresentationsInSchema(explicit, columns)


def _adapter(schema: schema_pb2.Schema) -> tensor_adapter.TensorAdapter:
    """Return what makes tensors of record batches, as TFX's own readers do."""
    representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(schema)
    arrow_schema = ExamplesToRecordBatchDecoder(schema.SerializeToString()).ArrowSchema()
    return tensor_adapter.TensorAdapter(tensor_adapter.TensorAdapterConfig(arrow_schema, representations))
