"""How much of a buffer joins the new examples, what is said where it is too small, and what is no buffer."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import DataError
from trainer.replayed_examples import ReplayedExamples, read_replayed_examples


def test_buffer_is_read_with_its_size(write_replay: Any) -> None:
    folder = write_replay([b"one", b"two", b"three"])
    replayed = read_replayed_examples(folder, 0.5)
    assert (replayed.num_examples, replayed.ratio) == (3, 0.5)
    assert Path(replayed.file).is_file()


def test_buffer_that_is_too_small_says_how_often_it_is_repeated() -> None:
    replayed = ReplayedExamples("file", 50, ratio=0.5)
    assert (replayed.num_per_epoch(100), replayed.shortage(100)) == (50, None)
    assert replayed.num_per_epoch(400) == 200
    assert replayed.shortage(400) == (
        "The replay buffer has 50 examples where replay_ratio=0.5 asks for 200 beside 400 new ones; "
        "each was used about 4 times an epoch."
    )


def test_folder_without_membership_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"replay buffer in .* cannot be read. Expected membership.json.*FileNotFound"):
        read_replayed_examples(tmp_path, 1.0)
