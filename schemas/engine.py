"""What computes a node: this process, on Arrow record batches, or Beam; and on which of Beam's runners."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.base import Record

Engine = Literal["in_process", "beam"]


class EngineOptions(Record):
    """When a node's work is done in this process. A plain word in the config, `engine: beam`, sets `use`.

    Attributes:
        use: `auto` takes this process up to the two limits, and Beam beyond.
        max_examples: Most examples that `auto` takes into this process.
        max_megabytes: Most MiB of files, compressed as they lie on disk, that `auto` takes into this process.
        parallel_nodes: Most nodes of a DAG that run side by side.
    """

    use: Literal["auto", "in_process", "beam"] = "auto"
    max_examples: int = Field(default=1_000_000, ge=1)
    max_megabytes: float = Field(default=256, gt=0)
    parallel_nodes: int = Field(default=2, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    def choose(self, num_examples: int, num_bytes: int) -> Engine:
        """Return the engine for a node that reads this many examples, from this many bytes of files."""
        if self.use != "auto":
            return self.use
        fits = num_examples <= self.max_examples and num_bytes <= self.max_megabytes * 2**20
        return "in_process" if fits else "beam"


class BeamOptions(Record):
    """Where Beam runs what is not done in this process.

    Attributes:
        runner: `in_memory` is Beam in this process; `multi_processing` adds worker processes on this machine;
            `flink` is a Flink cluster.
        num_workers: Worker processes, or Flink's parallelism.
        flink_master: Address of the cluster's REST endpoint.
        job_server_jar: Beam's Flink job server: a path, or empty for the one that `make flink` fetched.
        job_endpoint: Address of a job server that runs beside the cluster; empty: each node starts one from the jar.
        environment: How Flink's task managers start Python: `LOOPBACK`, `EXTERNAL` or `PROCESS`.
        environment_config: What that environment needs, such as the address of a worker pool.
        args: More of Beam's own arguments.
    """

    runner: Literal["in_memory", "multi_processing", "flink"] = "in_memory"
    num_workers: int = Field(default=1, ge=1)
    flink_master: str = "localhost:8081"
    job_server_jar: str = ""
    job_endpoint: str = ""
    environment: Literal["LOOPBACK", "EXTERNAL", "PROCESS"] = "LOOPBACK"
    environment_config: str = ""
    args: tuple[str, ...] = ()

    @field_validator("args")
    @classmethod
    def _without_runner(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        for arg in args:
            if arg.partition("=")[0] == "--runner":
                raise ValueError(
                    f"{arg!r} is not allowed here, since not every runner of Beam is safe: Dask's reports success and "
                    "loses data. Set beam.runner to in_memory, multi_processing or flink"
                )
        return args
