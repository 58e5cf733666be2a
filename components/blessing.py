"""A blessing as TFX's Evaluator writes it: its Pusher and its resolvers look for these files and properties."""

from pathlib import Path
from typing import Any

from tfx.components.evaluator import constants

from core.files import write_text_atomically


def fill_blessing(blessing: Any, *, model: Any, baseline: Any, is_blessed: bool) -> None:
    """Write whether a model is blessed, and what it was compared with.

    Args:
        blessing: The ModelBlessing artifact to fill.
        model: The candidate.
        baseline: The model that it was compared with, or None.
        is_blessed: The verdict.
    """
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id)
    name = constants.BLESSED_FILE_NAME if is_blessed else constants.NOT_BLESSED_FILE_NAME
    write_text_atomically(Path(blessing.uri) / name, "")
    value = constants.BLESSED_VALUE if is_blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
