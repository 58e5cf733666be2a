"""TFX's Trainer, with the digests of all that it read and made written on the Model artifact."""

import json
from pathlib import Path
from typing import Any

from tfx.components import Trainer as TfxTrainer
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base import executor_spec

from core.digests import digest_of_folder
from schemas import provenance
from schemas.model_layout import TRAINING_FOLDER

PROVENANCE_KEY = "provenance"


class TrainerExecutor(GenericExecutor):
    """Train, then record provenance, so that lineage needs nothing but ML Metadata."""

    def Do(  # TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run `trainer.run_fn.run_fn` and write digests as custom properties of the Model artifact."""
        super().Do(input_dict, output_dict, exec_properties)
        (model,) = output_dict["model"]
        folder = Path(model.uri)
        digests = {
            provenance.MODEL_DIGEST: digest_of_folder(folder),
            provenance.TRAINING_DIGEST: digest_of_folder(folder / TRAINING_FOLDER),
            provenance.TRANSFORM_GRAPH_DIGEST: _digest_of(input_dict, "transform_graph"),
            provenance.SCHEMA_DIGEST: _digest_of(input_dict, "schema"),
            provenance.BASE_MODEL_DIGEST: _digest_of(input_dict, "base_model"),
        }
        custom_config = json.loads(exec_properties["custom_config"])
        for name, value in {**custom_config[PROVENANCE_KEY], **digests}.items():
            if value is not None:
                model.set_string_custom_property(name, value)


class Trainer(TfxTrainer):
    """TFX's Trainer with our executor."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)


def _digest_of(input_dict: dict[str, list[Any]], key: str) -> str | None:
    artifacts = input_dict.get(key)
    return digest_of_folder(Path(artifacts[0].uri)) if artifacts else None
