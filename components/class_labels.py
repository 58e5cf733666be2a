"""Labels of a multiclass task as TFMA wants them: the index of a class, whatever text or number the data has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.api.model_eval_lib import default_extractors
from tensorflow_model_analysis.api.types import VarLenTensorValue
from tensorflow_model_analysis.extractors.extractor import Extractor
from tensorflow_model_analysis.extractors.labels_extractor import LABELS_EXTRACTOR_STAGE_NAME

from core.errors import DataError
from schemas.model_layout import TRAINING_FOLDER
from trainer.training_record import read_training_record

STAGE_NAME = "ClassLabelsToIndices"


def custom_extractors(eval_shared_model: Any, eval_config: Any, tensor_adapter_config: Any) -> list[Extractor]:
    """Return TFMA's extractors with one more behind the labels'. TFX's Evaluator finds this function by its name.

    The classes are those that the candidate was trained with.
    """
    extractors: list[Extractor] = default_extractors(
        eval_shared_model=eval_shared_model, eval_config=eval_config, tensor_adapter_config=tensor_adapter_config
    )
    candidate = eval_shared_model[0] if isinstance(eval_shared_model, list) else eval_shared_model
    record = read_training_record(Path(candidate.model_path).parent / TRAINING_FOLDER)
    classes = record.request.feature_set.label.classes
    stages = [extractor.stage_name for extractor in extractors]
    extractors.insert(
        stages.index(LABELS_EXTRACTOR_STAGE_NAME) + 1,
        Extractor(stage_name=STAGE_NAME, ptransform=beam.Map(_with_indices, classes)),
    )
    return extractors


def class_indices(labels: Any, classes: tuple[str, ...]) -> Any:
    """Return labels, text or integers of any shape, as indices into `classes`; by model name if they come so.

    Raises:
        DataError: a label is none of the classes.

    Example:
        >>> class_indices(np.array([[b"late"], [b"early"]]), ("early", "late")).tolist()
        [[1], [0]]
    """
    if isinstance(labels, Mapping):
        return {name: class_indices(values, classes) for name, values in labels.items()}
    if isinstance(labels, VarLenTensorValue):  # The schema lets the label be absent.
        return labels._replace(values=class_indices(labels.values, classes))
    values = np.asarray(labels)
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.ravel()]
    unknown = sorted(set(texts) - set(classes))
    if unknown:
        raise DataError(
            f"The eval split has labels that are none of the classes. Expected {list(classes)}; received {unknown}. "
            "Add them to the config's label.classes, or correct the source."
        )
    return np.array([classes.index(text) for text in texts], np.int64).reshape(values.shape)


def _with_indices(extracts: dict[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    return {**extracts, constants.LABELS_KEY: class_indices(extracts[constants.LABELS_KEY], classes)}
