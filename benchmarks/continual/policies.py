"""How a model is kept up with a stream: the policies under comparison, as data. How one is run is in `runs`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.replay import ReplayOptions
from schemas.training import TrainingOptions


@dataclass(frozen=True)
class Policy:
    """One way to keep up.

    Attributes:
        name: Key in tables and JSON.
        title: What it does, for readers of the report.
        learns: What every span sets off: nothing, a cold start on the last span or on all spans so far, a warm start.
        transform: `refreshed`: every few spans on its base, weights moved. `analysed_anew`: from nothing, on the span,
            before every run, weights copied by index and the optimizer lost, as stock TFX does it. `scheduled_anew`:
            the same at the times and on the windows of `refreshed`.
        training: Options that differ from the stream's.
        replay: The replay buffer, where `replay_ratio` asks for one.
        average: Share of the old average in the average of weights over spans that is served; 0: no average.
        is_extended: Uses the extended features of flights.
        without: Features left out.
        is_ours: Offered by the product.
    """

    name: str
    title: str
    learns: Literal["nothing", "last_span", "all_history", "warm"] = "warm"
    transform: Literal["refreshed", "analysed_anew", "scheduled_anew"] = "refreshed"
    training: dict[str, Any] = field(default_factory=dict)
    replay: ReplayOptions = field(default_factory=ReplayOptions)
    average: float = 0.0
    is_extended: bool = False
    without: tuple[str, ...] = ()
    is_ours: bool = True

    def options(self, stream: TrainingOptions) -> TrainingOptions:
        """Return the stream's options as this policy has them."""
        return TrainingOptions.model_validate(stream.model_dump() | self.training)


NEURAL_POLICIES = (
    Policy("frozen", "trained on the first 8 spans, then never again", learns="nothing", is_ours=False),
    Policy("cold_last", "cold start on the last span", "last_span", training={"epochs_cold": 8}, is_ours=False),
    Policy(
        "cold_all", "cold start on all history, 2 epochs", "all_history", training={"epochs_cold": 2}, is_ours=False
    ),
    Policy("naive_warm", "stock TFX's warm start, analysed anew every span", transform="analysed_anew", is_ours=False),
    Policy("naive_scheduled", "the same, analysed anew when ours refreshes", transform="scheduled_anew", is_ours=False),
    Policy("warm", "warm start"),
    Policy("replay", "warm, one past example per new one", training={"replay_ratio": 1.0}),
    Policy("l2_sp", "warm, L2-SP", training={"regularisation": {"l2_sp": 0.001}}),
    Policy("ewc", "warm, EWC", training={"regularisation": {"ewc": 1.0}}),
    Policy("distillation", "warm, distillation", training={"regularisation": {"distillation": 0.1}}),
    Policy("shrink_perturb", "warm, shrink and perturb", training={"initialisation": "shrink_perturb"}),
    Policy("auto", "the best start by a probe, every span", training={"initialisation": "auto"}),
)
LOGISTIC, TREE = "river_logistic", "river_tree"
ONLINE_POLICIES = {
    LOGISTIC: "River: logistic regression, numbers scaled, categories one-hot",
    TREE: "River: Hoeffding adaptive tree",
}
