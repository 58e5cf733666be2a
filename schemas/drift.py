"""How much drift is too much: the thresholds that the config offers and `DriftGate` receives."""

from typing import Literal

from pydantic import Field

from schemas.base import Record

VerdictWord = Literal["pass", "warn", "cold_start", "block"]


class Bounds(Record):
    """Thresholds of one measure: above `warn` the verdict is warn, above `cold_start` cold start, above `block` block.

    A bound that is None is never crossed.
    """

    warn: float | None = Field(default=None, ge=0)
    cold_start: float | None = Field(default=None, ge=0)
    block: float | None = Field(default=None, ge=0)


class FeatureDrift(Record):
    """Bounds for one feature.

    Attributes:
        distance: L-infinity for categorical, Jensen-Shannon divergence (base 2, in [0, 1]) for numeric features.
        missing_rate: Absolute rise of the share of examples without a value.
        new_values: Share of examples whose value the other statistics do not list; categorical features only.
    """

    distance: Bounds = Bounds(warn=0.3)
    missing_rate: Bounds = Bounds(warn=0.1, block=0.6)
    new_values: Bounds = Bounds(warn=0.2)


class FeatureDriftOverride(Record):
    """Bounds of one feature where they differ from the default's; a measure that is None keeps the default's bounds."""

    distance: Bounds | None = None
    missing_rate: Bounds | None = None
    new_values: Bounds | None = None


class DriftOptions(Record):
    """What `DriftGate` holds a span against.

    Attributes:
        default: Bounds of every feature, where `features` says nothing else.
        features: What differs, per feature.
        label_rate: Absolute change of the label's mean.
        min_examples: A split-wide count below this blocks.
        example_count: Ratio between the two spans' example counts, larger over smaller.
        anomalies: Verdict per TFDV anomaly type name (e.g. `ENUM_TYPE_UNEXPECTED_STRING_VALUES`); types not named
            get `anomaly_default`.
    """

    default: FeatureDrift = FeatureDrift()
    features: dict[str, FeatureDriftOverride] = {}
    label_rate: Bounds = Bounds(warn=0.1, block=0.5)
    min_examples: int = Field(default=100, ge=1)
    example_count: Bounds = Bounds(warn=2.0, block=20.0)
    anomalies: dict[str, VerdictWord] = {}
    anomaly_default: VerdictWord = "block"

    def of_feature(self, name: str) -> FeatureDrift:
        """Return the bounds that hold for a feature."""
        override = self.features.get(name, FeatureDriftOverride())
        return self.default.model_copy(update={key: bounds for key, bounds in override if bounds is not None})
