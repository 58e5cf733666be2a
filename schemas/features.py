"""What a config says about features and label. The raw types come from the reviewed schema, not from here."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from core.errors import DataError
from schemas.base import Record

# Key of Transform's custom config under which the feature set stands, as JSON.
FEATURE_SET_KEY = "feature_set"


class NumericFeature(Record):
    """A number, z-scored; a missing value becomes the mean and, if asked, sets an indicator input.

    `clip` bounds the z-score on both sides, in standard deviations, so that one absurd value cannot blow up a gradient.
    """

    kind: Literal["numeric"]
    missing_indicator: bool = False
    clip: float = Field(default=10.0, gt=0)


class BucketizedFeature(Record):
    """A number cut into quantile buckets and embedded; a missing value has a bucket of its own."""

    kind: Literal["bucketized"]
    num_buckets: int = Field(default=10, ge=2)
    embedding_dim: int = Field(default=4, ge=1)


class VocabularyFeature(Record):
    """A category, looked up in an analysed vocabulary and embedded.

    Attributes:
        capacity: Most tokens the vocabulary may hold; the embedding has `capacity + num_oov_buckets` rows.
        min_frequency: Tokens seen less often than this stay out of the vocabulary.
        max_values: For a multi-valued feature: how many values of one example are used, the first ones.
    """

    kind: Literal["vocabulary"]
    capacity: int = Field(default=1000, ge=1)
    num_oov_buckets: int = Field(default=1, ge=1)
    min_frequency: int = Field(default=1, ge=1)
    embedding_dim: int = Field(default=8, ge=1)
    multivalued: bool = False
    max_values: int = Field(default=8, ge=1)


class HashedFeature(Record):
    """A category hashed into a fixed number of buckets and embedded; needs no analysis."""

    kind: Literal["hashed"]
    num_buckets: int = Field(default=1000, ge=1)
    embedding_dim: int = Field(default=8, ge=1)
    multivalued: bool = False
    max_values: int = Field(default=8, ge=1)


class CyclicFeature(Record):
    """A number on a circle (hour of day, day of week) as sine and cosine of `2 * pi * value / period`."""

    kind: Literal["cyclic"]
    period: float = Field(gt=0)


FeatureSpec = Annotated[
    NumericFeature | BucketizedFeature | VocabularyFeature | HashedFeature | CyclicFeature,
    Field(discriminator="kind"),
]


class LabelSpec(Record):
    """What the model predicts.

    Attributes:
        name: Column of the label.
        task: Kind of head: one probability, one probability per class, or one number.
        classes: Multiclass only: the label's values in the order of the model's outputs.
    """

    name: str
    task: Literal["binary", "multiclass", "regression"] = "binary"
    classes: tuple[str, ...] = ()

    def number_of(self, values: Sequence[bytes | str | float]) -> float:
        """Return an example's label as metrics take it: the number itself, or for multiclass the index of its class.

        Args:
            values: All values that the example has of the label; there must be one.

        Raises:
            DataError: there is none, there are several, or it is no number or none of the classes.

        Example:
            >>> LabelSpec(name="late", task="multiclass", classes=("early", "late")).number_of([b"late"])
            1.0
        """
        if len(values) != 1:
            raise DataError(
                f"A record has {len(values)} values of label {self.name!r}. Expected exactly one. "
                "Leave unlabelled records out of the span, or correct the config's label."
            )
        value = values[0]
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        try:
            return float(self.classes.index(text) if self.task == "multiclass" else text)
        except ValueError as error:
            expected = f"one of {list(self.classes)}" if self.task == "multiclass" else "a number"
            raise DataError(
                f"A record has an unusable label {self.name!r}. Expected {expected}; received {text!r}. "
                "Correct the source, or the config's label."
            ) from error


class FeatureSet(Record):
    """All features by column name, and the label: what `preprocessing_fn` and the model build themselves from.

    `preprocessing_fn` names a user's own function as `module:function`; it takes raw tensors by name and returns
    transformed tensors by the names and types that `schemas.transformed` lists.
    """

    features: dict[str, FeatureSpec] = Field(min_length=1)
    label: LabelSpec
    preprocessing_fn: str | None = None
