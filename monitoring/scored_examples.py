"""Labels, slices and two models' scores of the same examples. Which models, and where examples lie, is the caller's."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.bootstrap import paired_difference
from monitoring.metrics import metrics_of
from records.columns import labels_of, read_columns
from schemas.features import LabelSpec
from schemas.gate import INCOMPARABLE, BootstrapOptions, Difference

Array = npt.NDArray[Any]
# From serialized examples to scores of shape (num_examples, num_outputs).
Scorer = Callable[[Sequence[bytes]], Array]


@dataclass(frozen=True)
class ScoredExamples:
    """Examples of one task, scored by candidate and champion.

    Attributes:
        task: `binary`, `multiclass` or `regression`.
        labels: Shape `(num_examples,)`: 0 or 1, the index of a class, or a number.
        candidate: Its scores, shape `(num_examples, num_outputs)`.
        champion: The champion's, in the same shape.
        members: Rows of the examples that have a value in a column, by column and value as text; an example with
            several values is in several. Only columns that are sliced by are here.
    """

    task: str
    labels: Array
    candidate: Array
    champion: Array
    members: Mapping[tuple[str, str], Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Array) -> "ScoredExamples":
        """Return the examples that an index or a mask chooses, without their members."""
        return ScoredExamples(self.task, self.labels[rows], self.candidate[rows], self.champion[rows])

    def in_slice(self, values: Iterable[tuple[str, Any]]) -> "ScoredExamples":
        """Return the examples that have all of these values by column; no value asks for all examples."""
        nothing = np.empty(0, np.int64)
        rows = [self.members.get((column, str(value)), nothing) for column, value in values]
        return self.take(reduce(np.intersect1d, rows)) if rows else self

    @cached_property
    def champion_metrics(self) -> dict[str, float]:
        """The champion's metrics that are defined on these examples, exact, by TFMA's names."""
        return metrics_of(self.task, self.labels, self.champion)

    def difference(self, metric: str, options: BootstrapOptions) -> Difference | None:
        """Return the candidate's value minus the champion's; None where that has no meaning or cannot be told."""
        if metric in INCOMPARABLE:
            return None
        return paired_difference(
            self.task, metric, self.labels, candidate=self.candidate, champion=self.champion, options=options
        )


def score_examples(
    batches: Iterable[Sequence[bytes]], *, label: LabelSpec, columns: Iterable[str], candidate: Scorer, champion: Scorer
) -> ScoredExamples | None:
    """Score serialized examples by both models; of the examples, only labels and slices are kept.

    None is returned where there is no example: that is for the gate to judge.

    Args:
        batches: Serialized `tf.Example` records.
        label: What the models predict.
        columns: Columns that are sliced by.
        candidate: Scores a batch.
        champion: Scores a batch.

    Raises:
        DataError: an example has no label, several, or one that is no number or none of the classes.
    """
    labels: list[Array] = []
    scores: tuple[list[Array], list[Array]] = ([], [])
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    sliced = sorted(set(columns))
    num_examples = 0
    for batch in batches:
        values = read_columns(batch, {label.name, *sliced})
        for column in sliced:
            for row, of_example in enumerate(values[column], num_examples):
                for text in set(map(_text, of_example)):
                    members[column, text].append(row)
        labels.append(labels_of(values[label.name], label))
        scores[0].append(candidate(batch))
        scores[1].append(champion(batch))
        num_examples += len(batch)
    if not num_examples:
        return None
    outputs = [np.concatenate(of_model) for of_model in scores]
    num_outputs = max(array.shape[1] for array in outputs)
    return ScoredExamples(
        task=label.task,
        labels=np.concatenate(labels),
        candidate=_padded(outputs[0], num_outputs),
        champion=_padded(outputs[1], num_outputs),
        members={key: np.asarray(rows, np.int64) for key, rows in members.items()},
    )


def _padded(scores: Array, num_outputs: int) -> Array:
    """Return scores with probability 0 for the classes that were appended after a model was trained."""
    return np.pad(scores, ((0, 0), (0, num_outputs - scores.shape[1])))


def _text(value: Any) -> str:
    """Return a value as TFMA names its slice."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
