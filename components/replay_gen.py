"""Keep a fixed number of past examples, so that training on new data need not forget the old."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from ingest.replay_buffer import update_buffer
from schemas.artifacts import ReplayBuffer
from schemas.features import LabelSpec
from schemas.provenance import (
    EXAMPLES_SPANS,
    REPLAY_PREVIOUS,
    REPLAY_SPANS_JOINED,
    REPLAY_SPANS_LEFT,
    decode_spans,
    encode_spans,
)
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
        buffer: Artifact to fill; its custom properties name the spans that joined and left since the previous one.
        options: `schemas.replay.ReplayOptions` as JSON.
        label: `schemas.features.LabelSpec` as JSON.
        seed: Seed of the lots that decide what is kept.
        previous: The buffer so far; None starts an empty one.
    """
    update = update_buffer(
        Path(previous.uri) if previous else None,
        Path(examples.uri),
        Path(buffer.uri),
        spans=decode_spans(examples.get_string_custom_property(EXAMPLES_SPANS)),
        options=ReplayOptions.model_validate_json(options),
        label=LabelSpec.model_validate_json(label).name,
        seed=seed,
    )
    if previous:
        buffer.set_string_custom_property(REPLAY_PREVIOUS, previous.uri)
    buffer.set_string_custom_property(REPLAY_SPANS_JOINED, encode_spans(update.joined))
    buffer.set_string_custom_property(REPLAY_SPANS_LEFT, encode_spans(update.left))
