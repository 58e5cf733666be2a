"""How a run starts that could start warm: why it must not, and why its transform graph is analysed anew. Pure."""

from pydantic import ValidationError

from pipeline.config import WindowOptions
from schemas.carry_over import reason_against
from schemas.ledger_records import ModelRecord
from schemas.training import Initialisation, ModelShape


def in_words(initialisation: Initialisation) -> str:
    """Return how a sentence about a run begins."""
    return {
        "cold": "Cold start",
        "warm": "Warm start",
        "shrink_perturb": "Shrunk and perturbed warm start",
        "auto": "Start that a probe chooses",
    }[initialisation]


def reason_for_cold(
    base: ModelRecord | None, shape: ModelShape, initialisation: Initialisation, *, is_refresh_due: bool
) -> str | None:
    """Return why weights cannot be carried over, or None if they can.

    Args:
        base: The model to start from.
        shape: What the config asks for now.
        initialisation: How the config wants a run to start that has a base model.
        is_refresh_due: The transform graph is to be analysed anew.
    """
    if base is None:
        return "there is no champion yet."
    if initialisation == "cold":
        return "the config asks for one every time."
    before = _shape_of(base)
    if before is None:
        return "the ledger does not say from which features the champion was made."
    if (reason := reason_against(before, shape)) is not None:
        return reason
    if shape.feature_set.preprocessing_fn and is_refresh_due:
        return "the transform graph is due for a refresh, which a preprocessing_fn of your own cannot have."
    return None


def reason_for_refresh(base: ModelRecord, shape: ModelShape, span: int, window: WindowOptions) -> str | None:
    """Return why the transform graph must be analysed anew under a warm start of `span`, or None if it stays."""
    before = _shape_of(base)
    if before is not None and before.feature_set != shape.feature_set:
        return "features or classes were added in the config."
    age_spans = span - base.transform_span
    if window.refresh_every_spans is not None and age_spans >= window.refresh_every_spans:
        return f"it is {age_spans} spans old."
    return None


def _shape_of(model: ModelRecord) -> ModelShape | None:
    try:
        return ModelShape.model_validate_json(model.model_shape)
    except ValidationError:
        return None
