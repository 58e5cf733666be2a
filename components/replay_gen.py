"""Keep a fixed number of past examples, so that training on new data need not forget the old."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from ingest.replay_buffer import update_buffer
from schemas.artifacts import ReplayBuffer
from schemas.features import LabelSpec
from schemas.provenance import EXAMPLES_SPANS, REPLAY_MEMBERSHIP, decode_spans, encode_spans
from schemas.replay import ReplayOptions


@component
def ReplayGen(
    examples: InputArtifact[Examples],
    buffer: OutputArtifact[ReplayBuffer],
    options: Parameter[str],
    label: Parameter[str],
    seed: Parameter[int],
    previous: InputArtifact[ReplayBuffer] = None,
) -> None:
    """Offer all examples of some spans to the buffer, the train split to its train split and eval to eval.

    A span that the previous buffer was offered already changes nothing, so a cycle may be repeated.

    Args:
        examples: The spans, as `ExampleGen` passes them on.
        buffer: Artifact to fill; its custom properties say how many examples of which spans it has.
        options: `schemas.replay.ReplayOptions` as JSON.
        label: `schemas.features.LabelSpec` as JSON.
        seed: Seed of the lots that decide what is kept.
        previous: The buffer so far; None starts an empty one.
    """
    membership, spans = update_buffer(
        Path(previous.uri) if previous else None,
        Path(examples.uri),
        Path(buffer.uri),
        spans=decode_spans(examples.get_string_custom_property(EXAMPLES_SPANS)),
        options=ReplayOptions.model_validate_json(options),
        label=LabelSpec.model_validate_json(label).name,
        seed=seed,
    )
    buffer.set_string_custom_property(REPLAY_MEMBERSHIP, membership.model_dump_json())
    buffer.set_string_custom_property(EXAMPLES_SPANS, encode_spans(spans))
