"""Runs a policy over a stream: every span is scored by a model that has not seen it, then learned."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.continual.analysis import Arrays, analyse, apply, counted
from benchmarks.continual.learner import Learner
from benchmarks.continual.policies import Policy
from benchmarks.continual.scores import auc_of, log_loss_of, span_scores
from benchmarks.continual.streams import Stream
from ingest.reservoir import Reservoir, priorities_of
from schemas.analysis import Analysis
from schemas.spans import SpanRef
from trainer.model_state import ModelState
from trainer.starts import Start, possible_starts
from trainer.warm_start import moved_state

_TRAIN = "train"
Array = NDArray[Any]


@dataclass
class Line:
    """A line of models as it goes along a stream: what `run_policy` changes from span to span.

    Attributes:
        analysis: What the transform knows.
        fresh: The state of a cold start.
        served: The state that predicts.
        learned: The state that training goes on from; the same unless weights are averaged.
        length: Warm starts since the cold start.
        last_refresh: Span of the last analysis.
        past: The replay buffer.
        aucs: AUC of every span before it was learned.
        seconds: Seconds of training.
    """

    analysis: Analysis
    fresh: ModelState
    served: ModelState
    learned: ModelState
    length: int = 0
    last_refresh: int = 0
    past: Reservoir = field(default_factory=Reservoir)
    aucs: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0


def run_policy(
    policy: Policy, stream: Stream, learner: Learner, *, seed: int, on_span: Callable[[], None]
) -> dict[str, Any]:
    """Return train_seconds and scores under the names of `Result`.

    Args:
        policy: What to do.
        stream: What to learn.
        learner: Built for the stream's features and the policy's options.
        seed: Of weights and orders.
        on_span: Called after every span.
    """
    return _Run(policy, stream, learner, seed).scores(on_span)


class _Run:
    def __init__(self, policy: Policy, stream: Stream, learner: Learner, seed: int) -> None:
        self._policy, self._stream, self._learner, self._seed = policy, stream, learner, seed
        self._options = policy.options(stream.name, stream.training)
        self._features = learner.shape.feature_set
        self._label = self._features.label.name
        self._starts = np.cumsum([0, *map(len, stream.spans)])
        self._all = pd.concat(stream.spans, ignore_index=True)

    def scores(self, on_span: Callable[[], None]) -> dict[str, Any]:
        newest = self._stream.num_warm_up - 1 - self._stream.label_delay_spans
        line = self._cold(newest if self._policy.learns == "last_span" else 0, newest)
        if self._options.replay_ratio:
            for span in range(newest + 1):
                self._remember(line, span)
        predictions, old = [], []
        for span in self._stream.scored:
            self._learner.assign(line.served)
            frame = self._stream.spans[span]
            predictions.append(self._predicted(line, frame))
            line.aucs[span] = auc_of(frame[self._label].to_numpy(), predictions[-1])
            self._learn(line, span - self._stream.label_delay_spans)
            if self._stream.old is not None:
                self._learner.assign(line.served)
                labels = self._stream.old[self._label].to_numpy()
                old.append(auc_of(labels, self._predicted(line, self._stream.old)))
            on_span()
        labels = [self._stream.spans[span][self._label].to_numpy() for span in self._stream.scored]
        return {
            "train_seconds": line.seconds,
            "spans": tuple(self._stream.scored),
            "old_auc_by_span": tuple(old),
            **span_scores(labels, predictions),
        }

    def _learn(self, line: Line, span: int) -> None:
        match self._policy.learns:
            case "warm":
                self._refresh(line, span)
                self._warm(line, span)
            case "last_span":
                self._replace(line, self._cold(span, span))
            case "all_history":
                self._replace(line, self._cold(0, span))

    def _replace(self, line: Line, other: Line) -> None:
        line.analysis, line.served = other.analysis, other.served
        line.seconds += other.seconds

    def _cold(self, first: int, last: int) -> Line:
        frame = self._rows(first, last)
        analysis = analyse(frame, self._features)
        fresh = self._learner.fresh_state(self._seed)
        start = Start("cold", fresh, None, 0)
        inputs, labels = self._examples(frame, analysis)
        epochs = self._options.epochs_cold
        seconds = self._fit((inputs, labels), start, epochs, last)
        seconds_of_fisher, state = self._with_fisher(inputs, labels)
        return Line(analysis, fresh, state, state, last_refresh=last, seconds=seconds + seconds_of_fisher)

    def _refresh(self, line: Line, span: int) -> None:
        is_due = span - line.last_refresh >= self._stream.refresh_every_spans
        window = self._rows(max(0, span - self._stream.window_spans + 1), span)
        match self._policy.transform:
            case "refreshed" if is_due:
                analysis = analyse(window, self._features, line.analysis)
                line.served = self._moved(line, line.served, analysis)
                line.learned = self._moved(line, line.learned, analysis)
            case "scheduled_anew" if is_due:
                analysis = analyse(window, self._features)
            case "analysed_anew":
                analysis = analyse(self._stream.spans[span], self._features)
            case _:
                analysis = line.analysis
        if self._policy.transform != "refreshed":
            line.learned = replace(line.learned, slots=line.fresh.slots)
        line.analysis = analysis
        line.last_refresh = span if is_due else line.last_refresh

    def _moved(self, line: Line, state: ModelState, analysis: Analysis) -> ModelState:
        shape = self._learner.shape
        return moved_state(
            state, base_shape=shape, base_analysis=line.analysis, shape=shape, analysis=analysis, fresh=line.fresh
        )

    def _warm(self, line: Line, span: int) -> None:
        new, past = self._stream.spans[span], None
        is_misled = self._policy.renewal_rate > 0 and line.aucs.get(span, 1.0) < chance_auc(new[self._label])
        if is_misled:
            line.past = Reservoir()
        if self._options.replay_ratio:
            past = self._replayed(line, span, len(new))
            self._remember(line, span)
        line.length += 1
        inputs, labels = self._examples(pd.concat([new, past], ignore_index=True), line.analysis)
        starts = possible_starts(
            self._options.initialisation,
            fresh=line.fresh,
            moved=line.learned,
            trainable=self._learner.trainable,
            options=self._options.shrink_perturb,
            line_length=line.length,
        )
        start = starts[0] if len(starts) == 1 else self._probed(starts, line, inputs, labels, span)
        epochs = self._options.epochs_cold if start.name == "cold" else self._options.epochs_warm
        factor = self._policy.renewal_rate if is_misled else 1.0
        line.seconds += self._fit((inputs, labels), start, epochs, span, factor)
        line.learned = self._learner.state()
        if span == line.last_refresh:
            seconds, line.learned = self._with_fisher(inputs, labels)
            line.seconds += seconds
        else:
            line.learned = replace(self._learner.state(), fisher=start.state.fisher)
        line.served = line.learned if is_misled else averaged(line.served, line.learned, self._policy.average)
        line.analysis = counted(line.analysis, new, self._features)

    def _probed(self, starts: tuple[Start, ...], line: Line, inputs: Arrays, labels: Array, span: int) -> Start:
        """Return the start that, after a few epochs on most of the span, has the least log loss on the rest.

        As `trainer.probe`, which works on files and counts steps.
        """
        random = np.random.default_rng(self._order_seed(span))
        is_held_out = random.random(len(labels)) < self._options.validation_fraction
        seen, unseen = ({name: array[rows] for name, array in inputs.items()} for rows in (~is_held_out, is_held_out))
        steps_an_epoch = -(-int(np.sum(~is_held_out)) // self._options.batch_size)
        epochs = max(1, round(self._options.probe.num_steps / steps_an_epoch))
        losses = []
        for start in starts:
            line.seconds += self._fit((seen, labels[~is_held_out]), start, epochs, span)
            losses.append(log_loss_of(labels[is_held_out], self._learner.predict(unseen)))
        return starts[int(np.argmin(losses))]

    def _remember(self, line: Line, span: int) -> None:
        labels = self._stream.spans[span][self._label].astype(int).astype(str).tolist()
        rows = [str(row).encode() for row in range(self._starts[span], self._starts[span + 1])]
        priorities = priorities_of(self._seed, _TRAIN, span, len(rows))
        offered = line.past.offer(SpanRef(span=span, version=1, digest=""), rows, labels, priorities=priorities)
        line.past = offered.keep(self._policy.replay.train_examples, self._policy.replay.balance)

    def _replayed(self, line: Line, span: int, num_new: int) -> pd.DataFrame:
        rows = np.array([int(row) for row in line.past.examples["example"]], np.int64)
        wanted = min(round(self._options.replay_ratio * num_new), len(rows))
        random = np.random.default_rng(self._order_seed(span))
        return self._all.iloc[random.choice(rows, wanted, replace=False)]

    def _fit(
        self, examples: tuple[Arrays, Array], start: Start, epochs: int, span: int, rate_factor: float = 1.0
    ) -> float:
        options = self._options
        if rate_factor != 1.0:
            rate = options.warm_learning_rate or options.learning_rate
            options = options.model_copy(update={"warm_learning_rate": rate * rate_factor})
        seed = self._order_seed(span)
        return self._learner.fit(*examples, start, options, epochs=epochs, order_seed=seed)

    def _with_fisher(self, inputs: Arrays, labels: Array) -> tuple[float, ModelState]:
        state = self._learner.state()
        if not self._options.regularisation.ewc:
            return 0.0, state
        seconds, fisher = self._learner.fisher(inputs, labels, self._options)
        return seconds, replace(state, fisher=fisher)

    def _predicted(self, line: Line, frame: pd.DataFrame) -> Array:
        return self._learner.predict(apply(frame, line.analysis, self._features))

    def _examples(self, frame: pd.DataFrame, analysis: Analysis) -> tuple[Arrays, Array]:
        return apply(frame, analysis, self._features), frame[self._label].to_numpy()

    def _rows(self, first: int, last: int) -> pd.DataFrame:
        return self._all.iloc[self._starts[first] : self._starts[last + 1]]

    def _order_seed(self, span: int) -> int:
        return 1000 * self._seed + span


def chance_auc(labels: pd.Series) -> float:
    """Return the AUC that predictions which know nothing stay below: three standard errors above a half.

    Source:
        Mann and Whitney, Annals of Mathematical Statistics 1947, section 4: the variance without ties.
    """
    positive = int((labels == 1).sum())
    negative = len(labels) - positive
    if not positive or not negative:
        return 0.0
    return 0.5 + 3 * float(np.sqrt((positive + negative + 1) / (12 * positive * negative)))


def averaged(average: ModelState, newest: ModelState, share: float) -> ModelState:
    """Return `share * average + (1 - share) * newest` for the weights, and the rest of the newest."""
    if not share:
        return newest
    weights = {
        path: (share * average.weights[path] + (1 - share) * array).astype(array.dtype)
        for path, array in newest.weights.items()
    }
    return replace(newest, weights=weights)
