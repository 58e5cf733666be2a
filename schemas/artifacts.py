"""Artifact types of our own, for what has no standard TFX type. Importing this module imports TFX."""

from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact

__all__ = ["DriftVerdict", "standard_artifacts"]


class DriftVerdict(Artifact):
    """What `DriftGate` found in a span.

    On disk: `{uri}/drift.json`, a `schemas.verdicts.DriftReport`.
    Custom property `verdict` (int): a `schemas.verdicts.Verdict`, which a `Cond` compares.
    """

    TYPE_NAME = "DriftVerdict"
