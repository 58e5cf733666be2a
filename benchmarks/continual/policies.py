"""How a model is kept up with a stream: the policies under comparison, as data. How one is run is in `runs`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.continual.streams import FLIGHTS
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
        on_flights: More of them, on flights.
        replay: The replay buffer, where `replay_ratio` asks for one.
        average: Share of the old average in the average of weights over spans that is served; 0: no average.
        renewal_rate: Above 0: when the served model ranks a span no better than chance, what is past misleads: the
            replay buffer and the average are emptied, and the span is learned at a rate so many times higher.
        is_extended: Uses the extended features of flights.
        without: Features left out.
        is_ours: Offered by the product.
    """

    name: str
    title: str
    learns: Literal["nothing", "last_span", "all_history", "warm"] = "warm"
    transform: Literal["refreshed", "analysed_anew", "scheduled_anew"] = "refreshed"
    training: dict[str, Any] = field(default_factory=dict)
    on_flights: dict[str, Any] = field(default_factory=dict)
    replay: ReplayOptions = field(default_factory=ReplayOptions)
    average: float = 0.0
    renewal_rate: float = 0.0
    is_extended: bool = False
    without: tuple[str, ...] = ()
    is_ours: bool = True

    def options(self, stream: str, training: TrainingOptions) -> TrainingOptions:
        """Return a stream's options as this policy has them."""
        special = self.on_flights if stream == FLIGHTS else {}
        return TrainingOptions.model_validate(training.model_dump() | self.training | special)


_STEADY: dict[str, Any] = {
    "training": {"replay_ratio": 1.0},
    # Large steps on large batches: what they stir up, the average settles.
    "on_flights": {"epochs_cold": 3, "batch_size": 512, "warm_learning_rate": 2e-3},
    # A buffer that is small beside what is drawn from it in a year is learned by heart.
    "replay": ReplayOptions(train_examples=100_000),
    "average": 0.6,
    "renewal_rate": 3.0,
}
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
    Policy("l2_sp", "warm, L2-SP", training={"regularisation": {"l2_sp": 0.01}}),
    Policy("ewc", "warm, EWC", training={"regularisation": {"ewc": 10.0, "fisher_examples": 500}}),
    Policy("distillation", "warm, distillation", training={"regularisation": {"distillation": 0.1}}),
    Policy("shrink_perturb", "warm, shrink and perturb", training={"initialisation": "shrink_perturb"}),
    Policy(
        "auto", "the best start by a probe, every span", training={"initialisation": "auto", "probe": {"num_steps": 50}}
    ),
    Policy("features", "warm, extended features, no aircraft", is_extended=True, without=("tailnum",)),
    Policy("steady", "warm, replay, average of weights, renewal", **_STEADY),
    Policy("best", "all of `features` and `steady`", is_extended=True, without=("tailnum",), **_STEADY),
)
LOGISTIC, TREE = "river_logistic", "river_tree"
ONLINE_POLICIES = {
    LOGISTIC: "River: logistic regression, numbers scaled, categories one-hot",
    TREE: "River: Hoeffding adaptive tree",
}
