"""How to train: the options that the config offers and the Trainer receives."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Record
from schemas.features import FeatureSet

# Keys of the Trainer's custom config: its request as JSON, and the folder of the replay buffer, where there is one.
REQUEST_KEY = "request"
PROVENANCE_KEY = "provenance"
REPLAY_FOLDER_KEY = "replay_folder"
FISHER_FILE = "fisher.npz"  # in Format-Training: diagonal Fisher information by variable path

# How a run starts, and how it may be asked to: `auto` lets the Trainer choose by a probe.
StartName = Literal["warm", "shrink_perturb", "cold"]
Initialisation = Literal["cold", "warm", "shrink_perturb", "auto"]
Distribution = Literal["none", "mirrored", "multi_worker"]
Precision = Literal["none", "bfloat16", "float16"]


class ModelOptions(Record):
    """Architecture of the model.

    Attributes:
        kind: One of ours, or `custom` with `function` naming the user's own as `module:function`; that one takes
            `(inputs: dict[str, keras.KerasTensor], feature_set, options)` and returns the tensor before the head.
        hidden_units: Widths of the dense layers (`dnn`, `wide_deep`, `dcn_v2`).
        cross_layers: Number of cross layers (`dcn_v2`), Wang et al., WWW 2021, equation 1.
        extension_units: Widths of an extra branch from the model's inputs to the logits, for freeze-and-extend; it
            may be added to a trained model, because its last layer starts at zero.
    """

    kind: Literal["linear", "dnn", "wide_deep", "dcn_v2", "custom"] = "wide_deep"
    function: str | None = None
    hidden_units: tuple[int, ...] = (64, 32)
    cross_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    extension_units: tuple[int, ...] = ()


class ShrinkPerturb(Record):
    """`theta = shrink * base + perturb * fresh`, with `fresh` drawn as for a cold start.

    Source:
        Ash and Adams, On Warm-Starting Neural Network Training, NeurIPS 2020, section 4.
    """

    shrink: float = Field(default=0.9, ge=0, le=1)
    perturb: float = Field(default=0.1, ge=0)


class Probe(Record):
    """How `initialisation: auto` compares: every start trains `num_steps` steps on a sample of the window.

    Attributes:
        num_steps: Steps of each start.
        num_examples: Most examples of the sample, the newest.
    """

    num_steps: int = Field(default=200, ge=1)
    num_examples: int = Field(default=20_000, ge=100)


class Regularisation(Record):
    """What keeps a warm-started model near its base; 0 switches a term off.

    Attributes:
        l2_sp: `l2_sp / 2 * sum((theta - base)^2)`. Li et al., Explicit Inductive Bias, ICML 2018, equation 3.
        ewc: `ewc / 2 * sum(fisher * (theta - base)^2)`. Kirkpatrick et al., PNAS 2017, equation 3.
        distillation: The loss is `(1 - distillation) * loss(label) + distillation * loss(base's output)`. Li and Hoiem,
            Learning without Forgetting, ECCV 2016.
        fisher_examples: Examples on which the next base's Fisher information is estimated; used only with `ewc`.
    """

    l2_sp: float = Field(default=0.0, ge=0)
    ewc: float = Field(default=0.0, ge=0)
    distillation: float = Field(default=0.0, ge=0, lt=1)
    fisher_examples: int = Field(default=2000, ge=1)


class TrainingOptions(Record):
    """Optimisation of one training run.

    Attributes:
        epochs_cold: Most passes over the window from random weights.
        epochs_warm: Most passes over the window from the base model's weights.
        initialisation: How a run starts when there is a base model.
        learning_rate: Rate at the first step of a cold start.
        warm_learning_rate: Rate in its place for warm runs; None: the same.
        learning_rate_policy: `constant`; `exponential` in the step count, which is carried over warm starts, as the
            next three say; `inverse_time`: `learning_rate / (1 + inverse_time_alpha * t)` at the t-th warm start of the
            line, constant within a run; `warm_restart`: every run falls from the rate to the floor along half a cosine
            (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5).
        decay_rate: The learning rate is multiplied by this every `decay_steps` steps (staircase off), down to
            `learning_rate * learning_rate_floor`.
        regularisation: Terms that hold warm runs near their base.
        freeze: Layers that warm runs leave as they are, as `fnmatch` patterns of names, e.g. `embedding_*`.
        replay_ratio: Past examples from the replay buffer per new example in warm runs; 0: none.
        patience_epochs: Stop after this many epochs without a better validation loss; the best weights are kept.
        validation_fraction: Share of the *train* split held out for early stopping; the eval split is the gate's alone.
        steps_per_execution: Steps in one call of TensorFlow; a loss that is not finite ends a run after such a call.
        distribution: `mirrored` shares every batch out among this machine's devices, `multi_worker` among the processes
            that `TF_CONFIG` names. Batches stay as large as they are, and what is learned the same but for rounding.
        worker_timeout_seconds: How long `multi_worker` waits for a worker that does not appear or answer.
        mixed_precision: What layers compute in; weights, output and loss stay float32. `float16` scales the loss.
        jit_compile: Whether XLA compiles the training step. It pays where a step is long, not where a run is short.
        max_loaded_examples: Up to so many examples, past ones included, are transformed once and held in memory;
            larger train splits are streamed from their files, batch by batch, in every epoch.
    """

    model: ModelOptions = ModelOptions()
    batch_size: int = Field(default=256, ge=1)
    epochs_cold: int = Field(default=4, ge=1)
    epochs_warm: int = Field(default=2, ge=1)
    initialisation: Initialisation = "warm"
    shrink_perturb: ShrinkPerturb = ShrinkPerturb()
    probe: Probe = Probe()
    learning_rate: float = Field(default=1e-3, gt=0)
    warm_learning_rate: float | None = Field(default=None, gt=0)
    learning_rate_policy: Literal["constant", "exponential", "inverse_time", "warm_restart"] = "exponential"
    inverse_time_alpha: float = Field(default=0.1, ge=0)
    decay_rate: float = Field(default=0.9, gt=0, le=1)
    decay_steps: int = Field(default=1000, ge=1)
    learning_rate_floor: float = Field(default=0.1, gt=0, le=1)
    clipnorm: float | None = Field(default=1.0, gt=0)
    regularisation: Regularisation = Regularisation()
    freeze: tuple[str, ...] = ()
    replay_ratio: float = Field(default=0.0, ge=0)
    patience_epochs: int = Field(default=1, ge=0)
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    distribution: Distribution = "none"
    worker_timeout_seconds: int = Field(default=300, ge=1)
    mixed_precision: Precision = "none"
    seed: int = Field(default=0, ge=0)
    steps_per_execution: int = Field(default=100, ge=1)
    jit_compile: bool = False
    max_loaded_examples: int = Field(default=500_000, ge=0)

    @model_validator(mode="after")
    def _check_probe_is_alone(self) -> "TrainingOptions":
        if self.distribution == "multi_worker" and self.initialisation == "auto":
            raise ValueError(
                "A probe is for one process, so that no two workers choose different starts. Expected another "
                "initialisation than 'auto' with distribution='multi_worker'; received 'auto'. Set initialisation to "
                "'warm' or 'shrink_perturb', or distribution to 'mirrored'."
            )
        return self


class ModelShape(Record):
    """What decides whether a model's weights can be carried over to another: kept in the ledger with every model."""

    feature_set: FeatureSet
    model: ModelOptions


class TrainerRequest(Record):
    """All that `run_fn` receives beside artifacts, as one JSON document in the Trainer's custom config.

    Attributes:
        initialisation: `cold` starts from seeded random weights, `warm` from the base model's weights and optimizer,
            `shrink_perturb` from a mixture of both; `auto` finds out which is best.
        base_model_digest: Digest of the base model's `Format-Training` folder as recorded when it was trained; the
            Trainer refuses a folder that no longer has it.
        line_length: Warm starts since the line's cold start, this one included; 0 for a cold start.
        checkpoint_dir: Where a killed step resumes from; the same for every attempt at one plan, emptied on success.
    """

    feature_set: FeatureSet
    options: TrainingOptions
    initialisation: Initialisation
    base_model_digest: str | None = None
    line_length: int = Field(default=0, ge=0)
    checkpoint_dir: str
