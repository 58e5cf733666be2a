"""Whether a trained model's weights fit what the config asks for now; a plan and the Trainer ask the same function."""

from schemas.features import FeatureSet, LabelSpec, VocabularyFeature
from schemas.training import ModelOptions, ModelShape
from schemas.transformed import DenseInput, model_inputs

# Options that change no trained weight: dropout has none, and an extension is new and begins at zero.
_FREE_OPTIONS = frozenset({"dropout", "extension_units"})
# What only decides which tokens a vocabulary takes in; weights follow their tokens.
_FREE_VOCABULARY_FIELDS = frozenset({"capacity", "min_frequency"})


def reason_against(base: ModelShape, current: ModelShape) -> str | None:
    """Return why the weights of a model cannot be carried over to a model of another shape, or None if they can.

    They can if features were added or change their order, a vocabulary's capacity or least frequency changed, classes
    were appended, dropout changed, or an extension was added.

    Returns:
        The rest of a sentence that begins with "A cold start: ", or None.

    Example:
        >>> features = {"features": {"wind": {"kind": "numeric"}}, "label": {"name": "late"}}
        >>> base = ModelShape.model_validate({"feature_set": features, "model": {"kind": "linear"}})
        >>> reason_against(base, base.model_copy(update={"model": ModelOptions(kind="dnn")}))
        "model.kind changed from 'linear' to 'dnn'."
        >>> reason_against(base, base) is None
        True
    """
    return (
        _against_model(base.model, current.model)
        or _against_features(base.feature_set, current.feature_set)
        or _against_user_code(base, current)
        or _against_label(base.feature_set.label, current.feature_set.label)
        or _against_classes(base, current)
    )


def _against_model(base: ModelOptions, current: ModelOptions) -> str | None:
    for name in ModelOptions.model_fields:
        if name not in _FREE_OPTIONS and getattr(base, name) != getattr(current, name):
            return f"model.{name} changed from {getattr(base, name)!r} to {getattr(current, name)!r}."
    if base.extension_units not in ((), current.extension_units):
        return f"model.extension_units changed from {base.extension_units} to {current.extension_units}."
    return None


def _against_features(base: FeatureSet, current: FeatureSet) -> str | None:
    for name, spec in base.features.items():
        other = current.features.get(name)
        if other is None:
            return f"feature {name!r} was removed."
        free = _FREE_VOCABULARY_FIELDS if isinstance(spec, VocabularyFeature) else frozenset()
        for field, value in spec.model_dump().items():
            received = getattr(other, field, None)
            if field not in free and value != received:
                return f"feature {name!r} changed its {field} from {value!r} to {received!r}."
    return None


def _against_user_code(base: ModelShape, current: ModelShape) -> str | None:
    """Return what only the author of a user's own function could know: how it takes other features."""
    old, new = base.feature_set, current.feature_set
    if old.preprocessing_fn != new.preprocessing_fn:
        return f"preprocessing_fn changed from {old.preprocessing_fn!r} to {new.preprocessing_fn!r}."
    if new.preprocessing_fn is not None and old.features != new.features:
        return f"features changed, and only the author of {new.preprocessing_fn!r} knows what it makes of them."
    if current.model.kind == "custom" and list(old.features) != list(new.features):
        return f"features changed, and only the author of {current.model.function!r} knows how it uses them."
    return None


def _against_label(base: LabelSpec, current: LabelSpec) -> str | None:
    if (base.name, base.task) != (current.name, current.task):
        return f"the label changed from {base.name!r} ({base.task}) to {current.name!r} ({current.task})."
    if current.classes[: len(base.classes)] != base.classes:
        return f"classes changed from {list(base.classes)} to {list(current.classes)}; only appending is possible."
    return None


def _against_classes(base: ModelShape, current: ModelShape) -> str | None:
    """Return that a linear model without dense inputs has no bias, which is what keeps a new class improbable."""
    has_bias = base.model.kind != "linear" or any(isinstance(i, DenseInput) for i in model_inputs(base.feature_set))
    if base.feature_set.label.classes != current.feature_set.label.classes and not has_bias:
        return "a class was appended, and a linear model of categories alone has no bias to start it with."
    return None
