"""A fixed number of past examples, chosen by the examples alone: neither order nor grouping of updates matters.

In here: what is kept, as a function of data in memory. Not in here: files (replay_buffer.py).

Every example has a random priority, and those of the lowest rank within their stratum are kept: bottom-k sampling.
Without strata that is Vitter's reservoir, with the difference that merging, repeating and reordering change nothing.

Source:
    Cohen and Kaplan, Summarizing Data using Bottom-k Sketches, PODC 2007, section 1. Vitter, Random Sampling with a
    Reservoir, ACM Transactions on Mathematical Software 1985.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from schemas.spans import SpanRef

Balance = Literal["none", "time", "class"]

_TYPES = {
    "priority": np.uint64,
    "span": np.int64,
    "version": np.int64,
    "position": np.int64,
    "label": object,
    "example": object,
}
_KEY_BYTES = 16  # Philox' key has 128 bits


def no_examples() -> pd.DataFrame:
    """Return an empty table with the columns of `Reservoir.examples`."""
    return pd.DataFrame({name: np.empty(0, kind) for name, kind in _TYPES.items()})


@dataclass(frozen=True)
class Reservoir:
    """The examples of one split that are kept, and what they were chosen from.

    Attributes:
        examples: One row per example by ascending priority, so that every prefix is a random sample of them too.
            Columns: `priority` (uint64), `span`, `version`, `position` (in the span's split, from 0), `label` (as
            text) and `example` (serialized).
        offered: Version of every span that was offered, by span; most have members, old ones may have none.
        num_seen: Examples ever offered.
    """

    examples: pd.DataFrame = field(default_factory=no_examples)
    offered: Mapping[int, SpanRef] = field(default_factory=dict)
    num_seen: int = 0

    def was_offered(self, ref: SpanRef) -> bool:
        """Whether this version of the span, or a correction of it, was offered before."""
        return ref.span in self.offered and self.offered[ref.span].version >= ref.version

    def offer(
        self, ref: SpanRef, examples: Sequence[bytes], labels: Sequence[str], *, priorities: npt.NDArray[np.uint64]
    ) -> "Reservoir":
        """Return the reservoir with all examples of a span in it; `keep` brings it back to its size.

        A version that was offered before, or was corrected since, changes nothing. A correction takes the places of the
        version before; if it has fewer examples, the reservoir is short of them until later spans fill it.

        Args:
            ref: Span and version.
            examples: Serialized examples of one split, in the order of the span's files.
            labels: Their labels as text.
            priorities: As `priorities_of` gives them.
        """
        if self.was_offered(ref):
            return self
        new = pd.DataFrame(
            {
                "priority": priorities,
                "span": np.full(len(examples), ref.span, np.int64),
                "version": np.full(len(examples), ref.version, np.int64),
                "position": np.arange(len(examples), dtype=np.int64),
                "label": np.asarray(labels, dtype=object),
                "example": np.asarray(examples, dtype=object),
            }
        )
        others = self.examples[self.examples["span"] != ref.span]
        return Reservoir(
            examples=pd.concat([others, new], ignore_index=True),
            offered={**self.offered, ref.span: ref},
            num_seen=self.num_seen + len(examples),
        )

    def keep(self, capacity: int, balance: Balance) -> "Reservoir":
        """Return the reservoir with the `capacity` examples that have the lowest ranks within their strata.

        So strata share equally, and what a small one leaves over goes to the others; a place that does not divide goes
        to the newest spans, or the first labels in the alphabet. What was dropped once would not be kept later either:
        a stratum holds its lowest priorities, and its share only shrinks.

        Args:
            capacity: Most examples to keep.
            balance: What makes a stratum: nothing, the span, or the label.
        """
        ordered = self.examples.sort_values(["priority", "span", "position"], ignore_index=True)
        stratum = _strata(ordered, balance)
        ranked = pd.DataFrame({"rank": stratum.groupby(stratum).cumcount(), "stratum": stratum})
        chosen = ranked.sort_values(["rank", "stratum"]).index[:capacity].sort_values()
        kept = ordered.loc[chosen].reset_index(drop=True)
        return Reservoir(examples=kept, offered=self.offered, num_seen=self.num_seen)

    @property
    def spans(self) -> tuple[SpanRef, ...]:
        """The spans that have members, oldest first."""
        return tuple(self.offered[span] for span in sorted(set(self.examples["span"].tolist())))

    @property
    def members(self) -> dict[str, int]:
        """How many examples each span has, by `span-version`, oldest first."""
        pairs = zip(self.examples["span"].tolist(), self.examples["version"].tolist(), strict=True)
        return {f"{span}-{version}": count for (span, version), count in sorted(Counter(pairs).items())}


def priorities_of(seed: int, split: str, span: int, num_examples: int) -> npt.NDArray[np.uint64]:
    """Return the priorities of a span's examples by position, shape `(num_examples,)`, uniform over all uint64.

    They do not depend on the version, so that a correction does not draw lots again.

    Args:
        seed: Another seed is another sample.
        split: `train` or `eval`.
        span: Number of the span.
        num_examples: Examples in the split.
    """
    key = hashlib.blake2b(f"{seed}/{split}/{span}".encode(), digest_size=_KEY_BYTES).digest()
    # Raw output of a bit generator: NumPy never changes it, unlike the methods of its generators.
    raw: Any = np.random.Philox(key=int.from_bytes(key, "big")).random_raw(num_examples)
    return np.asarray(raw, dtype=np.uint64)


def _strata(examples: pd.DataFrame, balance: Balance) -> Any:
    """Return the stratum of each example as a series; strata are in an order that does not depend on which there are.

    That order decides who gets the last places. If it were another one after every update, examples that it dropped
    before would be missing.
    """
    if balance == "time":
        return -examples["span"]
    if balance == "class":
        return examples["label"]
    return pd.Series(0, index=examples.index)
