"""What the transform graph gives the model: the one list that `transform` writes and `trainer` reads."""

from dataclasses import dataclass

from schemas.features import (
    BucketizedFeature,
    CyclicFeature,
    FeatureSet,
    HashedFeature,
    NumericFeature,
    VocabularyFeature,
)

MISSING_SUFFIX = "_missing"
SIN_SUFFIX = "_sin"
COS_SUFFIX = "_cos"
PADDING_ID = -1


@dataclass(frozen=True)
class DenseInput:
    """A float32 tensor of shape `(batch, 1)`."""

    name: str


@dataclass(frozen=True)
class IdInput:
    """An int64 tensor of shape `(batch, num_values)` with ids in [0, cardinality), or `PADDING_ID` for no value."""

    name: str
    cardinality: int
    embedding_dim: int
    num_values: int = 1


ModelInput = DenseInput | IdInput


def model_inputs(feature_set: FeatureSet) -> tuple[ModelInput, ...]:
    """Return the transformed features in the order of the config, without the label."""
    inputs: list[ModelInput] = []
    for name, spec in feature_set.features.items():
        match spec:
            case NumericFeature():
                inputs.append(DenseInput(name))
                if spec.missing_indicator:
                    inputs.append(DenseInput(name + MISSING_SUFFIX))
            case CyclicFeature():
                inputs += [DenseInput(name + SIN_SUFFIX), DenseInput(name + COS_SUFFIX)]
            case BucketizedFeature():
                # One bucket more than asked for: the last id stands for a missing value.
                inputs.append(IdInput(name, spec.num_buckets + 1, spec.embedding_dim))
            case VocabularyFeature():
                rows = spec.capacity + spec.num_oov_buckets
                inputs.append(IdInput(name, rows, spec.embedding_dim, spec.max_values if spec.multivalued else 1))
            case HashedFeature():
                inputs.append(
                    IdInput(name, spec.num_buckets, spec.embedding_dim, spec.max_values if spec.multivalued else 1)
                )
    return tuple(inputs)
