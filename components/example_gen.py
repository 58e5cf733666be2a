"""Bring spans into the DAG as a standard Examples artifact; nothing is decoded or reshuffled."""

import json
from collections import Counter
from pathlib import Path

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types.standard_artifacts import Examples

from core.errors import DataError
from core.files import link_or_copy
from ingest.manifests import read_manifest, verify_span
from schemas.provenance import EXAMPLES_COUNTS, EXAMPLES_SPANS, decode_spans
from schemas.spans import SPAN_FILE_NAME, SPLITS, SpanRef

FILE_FORMAT = "tfrecords_gzip"


@component
def ExampleGen(
    examples: OutputArtifact[Examples],
    spans_root: Parameter[str],
    spans: Parameter[str],
) -> None:
    """Verify the manifests of the planned spans and pass their TFRecord files through.

    TFX's own file-based ExampleGen resolves spans in a driver that open-source Kubeflow never runs; here span and
    version come from the plan, as parameters.

    Args:
        examples: Artifact to fill: `Split-train` and `Split-eval`, `span` and `version` of the newest span.
        spans_root: Folder of the spans.
        spans: The planned spans, oldest first, encoded by `schemas.provenance.encode_spans`.
    """
    references = decode_spans(spans)
    counts: Counter[str] = Counter()
    for reference in references:
        counts.update(_pass_through(Path(spans_root), reference, Path(examples.uri)))
    newest = references[-1]
    examples.splits = list(SPLITS)
    examples.span = newest.span
    examples.version = newest.version
    # TFX's driver writes them as custom properties too, and its resolvers read them only there.
    examples.set_int_custom_property("span", newest.span)
    examples.set_int_custom_property("version", newest.version)
    examples.set_string_custom_property(EXAMPLES_SPANS, spans)
    examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps(counts))
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, FILE_FORMAT)


def _pass_through(spans_root: Path, reference: SpanRef, target: Path) -> dict[str, int]:
    """Link a span's files into the artifact, and return how many examples each split has."""
    manifest = read_manifest(spans_root, reference.span, reference.version)
    if manifest.digest != reference.digest:
        raise DataError(
            f"Span {reference.span} version {reference.version} changed after it was planned. Expected content digest "
            f"{reference.digest}; received {manifest.digest}. Run again: the plan is made anew."
        )
    folder = reference.folder(spans_root)
    verify_span(folder, manifest)
    for split, files in manifest.files.items():
        for file in files:
            name = SPAN_FILE_NAME.format(span=reference.span, name=Path(file.path).name)
            link_or_copy(folder / file.path, target / f"Split-{split}" / name)
    return {split: sum(file.num_examples for file in files) for split, files in manifest.files.items()}
