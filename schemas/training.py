"""How to train: the options that the config offers and the Trainer receives."""

from typing import Literal

from pydantic import Field

from schemas.base import Record
from schemas.features import FeatureSet

# Key of the Trainer's custom config under which its request stands, as JSON.
REQUEST_KEY = "request"


class ModelOptions(Record):
    """Architecture of the model.

    Attributes:
        kind: One of ours, or `custom` with `function` naming the user's own as `module:function`; that one takes
            `(inputs: dict[str, keras.KerasTensor], feature_set, options)` and returns the tensor before the head.
        hidden_units: Widths of the dense layers (`dnn`, `wide_deep`, `dcn_v2`).
        cross_layers: Number of cross layers (`dcn_v2`), Wang et al., WWW 2021, equation 1.
    """

    kind: Literal["linear", "dnn", "wide_deep", "dcn_v2", "custom"] = "wide_deep"
    function: str | None = None
    hidden_units: tuple[int, ...] = (64, 32)
    cross_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class TrainingOptions(Record):
    """Optimisation of one training run.

    Attributes:
        epochs_cold: Most passes over the window from random weights.
        epochs_warm: Most passes over the window from the base model's weights.
        decay_rate: The learning rate is multiplied by this every `decay_steps` steps (staircase off), down to
            `learning_rate * learning_rate_floor`; the step count is carried over warm starts.
        patience_epochs: Stop after this many epochs without a better validation loss; the best weights are kept.
        validation_fraction: Share of the *train* split held out for early stopping; the eval split is the gate's alone.
    """

    model: ModelOptions = ModelOptions()
    batch_size: int = Field(default=256, ge=1)
    epochs_cold: int = Field(default=4, ge=1)
    epochs_warm: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    decay_rate: float = Field(default=0.9, gt=0, le=1)
    decay_steps: int = Field(default=1000, ge=1)
    learning_rate_floor: float = Field(default=0.1, gt=0, le=1)
    clipnorm: float | None = Field(default=1.0, gt=0)
    patience_epochs: int = Field(default=1, ge=0)
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    seed: int = Field(default=0, ge=0)


class TrainerRequest(Record):
    """All that `run_fn` receives beside artifacts, as one JSON document in the Trainer's custom config.

    Attributes:
        initialisation: `cold` starts from seeded random weights, `warm` from the base model's weights and optimizer.
        base_model_digest: Digest of the base model's `Format-Training` folder as recorded when it was trained; the
            Trainer refuses a folder that no longer has it.
        checkpoint_dir: Where a killed step resumes from; the same for every attempt at one plan, emptied on success.
    """

    feature_set: FeatureSet
    options: TrainingOptions
    initialisation: Literal["cold", "warm"]
    base_model_digest: str | None = None
    checkpoint_dir: str
