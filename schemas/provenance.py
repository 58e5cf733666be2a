"""How provenance is written down: the custom properties of artifacts that components write and lineage reads."""

import json
from collections.abc import Iterable

from schemas.spans import SpanRef

# Artifact type names, as ML Metadata stores them.
EXAMPLES_TYPE = "Examples"
MODEL_TYPE = "Model"
PUSHED_MODEL_TYPE = "PushedModel"
EVALUATION_TYPE = "ModelEvaluation"
REPLAY_BUFFER_TYPE = "ReplayBuffer"
BLESSING_TYPE = "ModelBlessing"
GATE_REPORT_TYPE = "GateVerdict"

# Keys of channels, as TFX's standard components name them in events.
EXAMPLES_KEY = "examples"
TRANSFORM_GRAPH_KEY = "transform_graph"
SCHEMA_KEY = "schema"
BASE_MODEL_KEY = "base_model"
MODEL_KEY = "model"
EVALUATION_KEY = "evaluation"
GATE_REPORT_KEY = "report"
BLESSING_KEY = "blessing"
PUSHED_MODEL_KEY = "pushed_model"
REPLAY_KEY = "replay"

# On Examples: the spans inside, see `encode_spans`.
EXAMPLES_SPANS = "spans"
# On Examples: how many there are by split, as the manifests say, a JSON object; what a runner must have read.
EXAMPLES_COUNTS = "num_examples"

# On what a node with a choice of engines wrote: `in_process` or `beam`.
ENGINE = "engine"
ENGINE_WHY = "engine_why"  # a sentence; absent unless Beam did what would have been small enough for this process

# On ReplayBuffer, as `encode_spans` writes them: spans with train examples in it that the buffer before had none of,
# and the other way round. Only the difference, since a list of every span in every buffer grows with the square of the
# runs; how many examples each has is in the buffer's own `membership.json`.
REPLAY_PREVIOUS = "previous_uri"  # of the buffer before; absent on the first
REPLAY_SPANS_JOINED = "spans_joined"
REPLAY_SPANS_LEFT = "spans_left"

# On Model: strings, written by the Trainer; digests are 64 hexadecimal digits.
MODEL_DIGEST = "digest"  # of the whole Model artifact
TRAINING_DIGEST = "training_digest"  # of its Format-Training folder, which a warm start checks
BASE_MODEL_DIGEST = "base_model_digest"  # `digest` of the model it started from; absent after a cold start
TRANSFORM_GRAPH_DIGEST = "transform_graph_digest"
SCHEMA_DIGEST = "schema_digest"
CONFIG_DIGEST = "config_digest"
CODE_DIGEST = "code_digest"
HYPERPARAMETERS = "hyperparameters"  # a JSON object
INITIALISATION = "initialisation"  # `cold`, `warm` or `shrink_perturb`: what was done, also where `auto` was asked
INITIALISATION_WHY = "initialisation_why"  # a sentence; absent unless a probe chose
REGULARISATION = "regularisation"  # a JSON object of the terms that held the model near its base
REPLAY_RATIO = "replay_ratio"  # past examples per new example, as text
RUN_ID = "run_id"

# On GateVerdict: a JSON object of overall metrics by name.
EVALUATION_METRICS = "metrics"

# On ModelBlessing, by TFX: 1 for blessed.
BLESSED = "blessed"

# On PushedModel, named as TFX's Pusher names them; the version is an int here.
PUSHED = "pushed"  # 1 if the model went to serving, 0 if the gate kept it back
PUSHED_VERSION = "pushed_version"
PUSHED_DESTINATION = "pushed_destination"

# On DriftVerdict: the int of `schemas.verdicts.Verdict`, which `Cond` reads.
DRIFT_VERDICT = "verdict"


def encode_spans(spans: Iterable[SpanRef]) -> str:
    """Return the `spans` property of an Examples artifact: a JSON list, oldest span first.

    Example:
        >>> encode_spans([SpanRef(span=8, version=1, digest="ab")])
        '[{"span": 8, "version": 1, "digest": "ab"}]'
    """
    return json.dumps([ref.model_dump() for ref in sorted(spans, key=lambda ref: (ref.span, ref.version))])


def decode_spans(text: str) -> tuple[SpanRef, ...]:
    """Return the spans that `encode_spans` wrote.

    Raises:
        ValueError: the text is something else.
    """
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError(f"Spans are no list. Expected a JSON list; received {text!r:.80}. Write it with encode_spans.")
    return tuple(SpanRef.model_validate(entry) for entry in entries)
