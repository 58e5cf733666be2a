"""The replay buffer on disk: a fixed number of past examples, and where they come from."""

from typing import Literal

from pydantic import Field

from schemas.base import Record

# In a ReplayBuffer artifact. Examples are gzipped TFRecords of serialized tf.Example, as in the spans they come from.
REPLAY_EXAMPLES_FILE = "Split-{split}/examples.tfrecord.gz"
REPLAY_INDEX_FILE = "Split-{split}/index.npz"  # per example, in the order of the records; arrays, no pickle
MEMBERSHIP_FILE = "membership.json"  # a Membership


class ReplayOptions(Record):
    """Size and balance of the buffer.

    Attributes:
        train_examples: Most examples kept of the train splits, to be trained on again; 0: none.
        eval_examples: Most examples kept of the eval splits, on which forgetting is measured; never trained on.
        balance: What has an equal share in the buffer: `none` (every example ever seen), `time` (every span), or
            `class` (every value of the label).
    """

    train_examples: int = Field(default=20_000, ge=0)
    eval_examples: int = Field(default=4000, ge=0)
    balance: Literal["none", "time", "class"] = "time"


class Membership(Record):
    """How many examples of which span are in the buffer, as `span-version` (e.g. `12-1`) by split.

    Attributes:
        num_seen: Examples of each split that were ever offered.
        members: By split and span.
    """

    num_seen: dict[str, int]
    members: dict[str, dict[str, int]]
