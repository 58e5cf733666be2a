"""Artifact types of our own, for what has no standard TFX type. Importing this module imports TFX."""

from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

__all__ = ["DriftVerdict", "GateVerdict", "PrequentialScore", "ReplayBuffer", "standard_artifacts"]


class DriftVerdict(Artifact):
    """What `DriftGate` found in a span.

    On disk: `{uri}/drift.json`, a `schemas.verdicts.DriftReport`.
    Custom property `verdict` (int): a `schemas.verdicts.Verdict`, which a `Cond` compares.
    """

    TYPE_NAME = "DriftVerdict"


class ReplayBuffer(Artifact):
    """A fixed number of past examples.

    On disk: `{uri}/` + the paths in `schemas.replay`.
    Custom properties `spans_joined` and `spans_left`: the spans with train examples in it that the buffer before had
    none of, and the other way round, encoded by `schemas.provenance.encode_spans`; `previous_uri`: that buffer.
    """

    TYPE_NAME = "ReplayBuffer"


class PrequentialScore(Artifact):
    """The champion's score on a span before anything trained on it.

    On disk: `{uri}/prequential.json`, a `schemas.scores.PrequentialScore`.
    """

    TYPE_NAME = "PrequentialScore"


class GateVerdict(Artifact):
    """What the gate measured and decided.

    On disk: `{uri}/gate.json`, a `schemas.gate.GateReport`.
    """

    TYPE_NAME = "GateVerdict"
