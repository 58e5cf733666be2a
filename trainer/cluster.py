"""The processes that train together, as the environment names them. Without TensorFlow."""

import json
import os
from typing import Literal

from pydantic import Field, ValidationError

from core.errors import ConfigError
from schemas.base import Record

TF_CONFIG = "TF_CONFIG"


class Task(Record):
    """Which of the processes this is: the `index`-th of its kind."""

    type: Literal["chief", "worker"]
    index: int = Field(ge=0)


class Cluster(Record):
    """What `TF_CONFIG` says, in the words of tf.distribute.

    Attributes:
        cluster: Addresses, `HOST:PORT`, by kind: `worker`, and `chief` where one is named.
        task: This process.
    """

    cluster: dict[Literal["chief", "worker"], tuple[str, ...]]
    task: Task

    @property
    def is_chief(self) -> bool:
        """Whether this is the first process, whose outcome is the run's."""
        return self.task.index == 0 and self.task.type == min(self.cluster)

    @property
    def addresses(self) -> list[str]:
        """All processes' addresses."""
        return [address for addresses in self.cluster.values() for address in addresses]


def read_cluster() -> Cluster:
    """Return what the environment says.

    Raises:
        ConfigError: it names no processes.
    """
    text = os.environ.get(TF_CONFIG, "")
    try:
        return Cluster.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raise ConfigError(
            f"Training with several workers does not know them. Expected the environment variable {TF_CONFIG} with "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}; received '
            f"{text!r}. Set it for every worker, or set training.distribution to 'none' or 'mirrored'."
        ) from error
