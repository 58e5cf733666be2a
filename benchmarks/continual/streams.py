"""What is learned from: a stream of spans as frames in memory. Which streams there are is in `flights`, `synthetic`."""

from dataclasses import dataclass

import pandas as pd

from schemas.features import FeatureSet
from schemas.training import TrainingOptions

FLIGHTS, SYNTHETIC = "flights", ("abrupt", "gradual", "recurring")
NUM_WARM_UP_SPANS = 8


@dataclass(frozen=True)
class Stream:
    """A stream cut into spans.

    Attributes:
        name: What it is called in tables.
        feature_set: Features and label, which are columns of every frame.
        spans: Examples of every span, oldest first.
        num_warm_up: The first spans are learned at once and not scored.
        label_delay_spans: When a span is scored, this many spans before it have no labels yet.
        training: Options that fit the stream, policies apart.
        refresh_every_spans: Age at which a transform is refreshed.
        window_spans: How many of the newest spans a refresh analyses; `window.cold_spans` in the product.
        drifts: What is known to happen at a span.
        old: Labelled examples of the first concept that nothing trains on, to see forgetting; None where unknown.
    """

    name: str
    feature_set: FeatureSet
    spans: tuple[pd.DataFrame, ...]
    training: TrainingOptions
    num_warm_up: int = NUM_WARM_UP_SPANS
    refresh_every_spans: int = 4
    window_spans: int = 8
    label_delay_spans: int = 0
    drifts: tuple[tuple[int, str], ...] = ()
    old: pd.DataFrame | None = None

    @property
    def scored(self) -> range:
        """The spans that count."""
        return range(self.num_warm_up, len(self.spans))
