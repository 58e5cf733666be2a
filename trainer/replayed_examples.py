"""Past examples that are trained on again, as the replay buffer holds them. How they are mixed in is in input_data."""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DataError
from schemas.replay import MEMBERSHIP_FILE, REPLAY_EXAMPLES_FILE, Membership


@dataclass(frozen=True)
class ReplayedExamples:
    """The train split of a replay buffer and how much of it is wanted.

    Attributes:
        file: Gzipped TFRecord file of serialized examples.
        num_examples: Examples in it.
        ratio: Past examples per new example.
    """

    file: str
    num_examples: int
    ratio: float

    def num_per_epoch(self, num_new_examples: int) -> int:
        """Return how many past examples join so many new ones; examples are repeated where there are not enough."""
        return round(self.ratio * num_new_examples) if self.num_examples else 0

    def shortage(self, num_new_examples: int) -> str | None:
        """Return a sentence about too small a buffer, or None if it has enough."""
        wanted = round(self.ratio * num_new_examples)
        if self.num_examples >= wanted:
            return None
        done = "each was used about" if self.num_examples else "none was replayed"
        often = f" {wanted / self.num_examples:.3g} times an epoch" if self.num_examples else ""
        return (
            f"The replay buffer has {self.num_examples} examples where replay_ratio={self.ratio:g} asks for {wanted} "
            f"beside {num_new_examples} new ones; {done}{often}."
        )


def read_replayed_examples(folder: Path, ratio: float) -> ReplayedExamples:
    """Return the train split of the replay buffer in a folder.

    Raises:
        DataError: the folder is no replay buffer.
    """
    try:
        membership = Membership.model_validate_json((folder / MEMBERSHIP_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"The replay buffer in {folder} cannot be read. Expected {MEMBERSHIP_FILE} as ReplayGen writes it; "
            f"received {type(error).__name__}: {error}. Restore the folder, or set replay_ratio to 0."
        ) from error
    num_examples = sum(membership.members.get("train", {}).values())
    return ReplayedExamples(str(folder / REPLAY_EXAMPLES_FILE.format(split="train")), num_examples, ratio)
