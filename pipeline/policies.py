"""What a config may say about running by itself: triggers, retries, corrections, and how many models to keep.

In here: the options alone. What they mean is computed in `pipeline.triggers`, `pipeline.repair`, `pipeline.registry`.
"""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from schemas.base import Record
from schemas.training import Initialisation

Action = Literal["train", "score", "shadow"]
Repair = Literal["ignore", "replay", "rerun", "cold_start"]


class CronTrigger(Record):
    """Fires when a cron expression says so, in its own time zone.

    Attributes:
        expression: Five fields, as `man 5 crontab` has them.
        timezone: Name of the time zone database. Daylight saving is treated as Debian's cron does.
    """

    kind: Literal["cron"]
    expression: str
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _both_can_be_read(self) -> "CronTrigger":
        try:
            zone = ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"expected a time zone such as 'Europe/Berlin' in timezone; received {self.timezone!r}"
            ) from error
        try:
            CronSim(self.expression, datetime.now(zone))
        except CronSimError as error:
            raise ValueError(
                f"expected five cron fields such as '0 3 * * 1' in expression; received {self.expression!r} ({error})"
            ) from error
        return self


class NewSpanTrigger(Record):
    """Fires when a span has arrived that no cycle has worked on."""

    kind: Literal["new_span"]


class LabelsTrigger(Record):
    """Fires when a span's labels are mature: `maturity_seconds` after the label-complete time in its manifest.

    A span whose manifest has no such time counts from its latest event, and without one from its arrival.
    """

    kind: Literal["labels_complete"]
    maturity_seconds: float = Field(default=0.0, ge=0)


class DriftTrigger(Record):
    """Fires when the newest finished span's drift verdict is `severity` or worse."""

    kind: Literal["drift"]
    severity: Literal["warn", "cold_start", "block"] = "cold_start"


class DecayTrigger(Record):
    """Fires when the prequential headline metric fell by `max_decay` (relative) in `num_spans` spans running."""

    kind: Literal["decay"]
    max_decay: float = Field(default=0.05, gt=0)
    num_spans: int = Field(default=2, ge=1)


class ManualTrigger(Record):
    """Fires when a person asks with `perennial trigger`."""

    kind: Literal["manual"]


Trigger = Annotated[
    CronTrigger | NewSpanTrigger | LabelsTrigger | DriftTrigger | DecayTrigger | ManualTrigger,
    Field(discriminator="kind"),
]


class Policy(Record):
    """One line of the table: trigger x data selection x initialisation x action.

    Attributes:
        name: Shown in the ledger and in `status`.
        select: Which of the waiting spans: the `next` one in order, the `latest` (those before it are skipped, with the
            reason), or the newest span that is `done` already, for retraining.
        initialisation: How the Trainer starts; None: as `training.initialisation` says.
        action: `train` runs a cycle, `score` validates and scores without training, `shadow` retrains in full beside
            the champion.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    trigger: Trigger
    select: Literal["next", "latest", "done"] = "next"
    initialisation: Initialisation | None = None
    action: Action = "train"

    @model_validator(mode="after")
    def _selection_fits_action(self) -> "Policy":
        if (self.select == "done") != (self.action == "shadow"):
            raise ValueError(
                "expected select: done with action: shadow and with no other, since a span is trained on once; "
                f"received select={self.select!r} with action={self.action!r}"
            )
        return self


class AdaptiveOptions(Record):
    """Train less while nothing changes: after `stable_spans` spans without a finding, only score, `max_skips` times.

    Attributes:
        stable_spans: Newest finished spans that must have drift verdict `pass` and no decay; None: always train.
        max_skips: Spans in a row that may go untrained.
    """

    stable_spans: int | None = Field(default=None, ge=1)
    max_skips: int = Field(default=3, ge=1)


class TriggerOptions(Record):
    """When the daemon runs what.

    Attributes:
        policies: Looked at in order; the first that fires runs. Names are unique.
        min_interval_seconds: From the end of one cycle to the start of the next.
        catch_up: What to do with spans that came while nobody looked: run `all`, only the `latest`, or `none`.
        overlap: A trigger that fires while a cycle runs waits (`queue`), is dropped (`skip`), or takes its place
            (`replace`: the running cycle is stopped at the next node and given up).
        adaptive: Train less on stable data.
        daily_compute_seconds: Wall seconds of cycles a day, in UTC; then spans wait for the next. None: no bound.
        expected_every_seconds: A span is overdue when so long has passed since the last one came; None: never.
        missing_grace_seconds: How long a gap in the span numbers is waited for before the later ones go on.
        poll_seconds: How often to look where nothing tells of new files.
    """

    policies: tuple[Policy, ...] = (
        Policy(name="manual", trigger=ManualTrigger(kind="manual")),
        Policy(name="new-span", trigger=NewSpanTrigger(kind="new_span")),
    )
    min_interval_seconds: float = Field(default=300.0, ge=0)
    catch_up: Literal["all", "latest", "none"] = "all"
    overlap: Literal["queue", "skip", "replace"] = "queue"
    adaptive: AdaptiveOptions = AdaptiveOptions()
    daily_compute_seconds: float | None = Field(default=None, gt=0)
    expected_every_seconds: float | None = Field(default=None, gt=0)
    missing_grace_seconds: float = Field(default=timedelta(hours=1).total_seconds(), ge=0)
    poll_seconds: float = Field(default=30.0, gt=0)

    @field_validator("policies")
    @classmethod
    def _names_are_unique(cls, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        names = [policy.name for policy in policies]
        if len(set(names)) != len(names):
            raise ValueError(f"expected policies with names of their own; received {names}")
        return policies


class RetryOptions(Record):
    """What happens after a failure.

    Attributes:
        max_attempts: Attempts without progress before a span is quarantined, and tries of one command at what may pass.
        backoff_seconds: Wait before the second try; doubled each time.
        max_backoff_seconds: Longest wait between two tries.
    """

    max_attempts: int = Field(default=3, ge=1)
    backoff_seconds: float = Field(default=5.0, ge=0)
    max_backoff_seconds: float = Field(default=300.0, ge=0)


class CorrectionOptions(Record):
    """What a corrected version of a span that models have learned from leads to.

    Attributes:
        repair: A repair by name, or `auto`: the cheapest one that is enough.
        ignore_below: Greatest share of changed examples that `auto` ignores with a note.
        replay_below: Greatest share that `auto` mends by replaying the correction into the next cycle.
        max_rerun_spans: Most spans that `auto` trains on again from the last clean ancestor; beyond it, a cold start.
    """

    repair: Repair | Literal["auto"] = "auto"
    ignore_below: float = Field(default=0.001, ge=0, le=1)
    replay_below: float = Field(default=0.2, ge=0, le=1)
    max_rerun_spans: int = Field(default=8, ge=1)


class RegistryOptions(Record):
    """Which models garbage collection leaves.

    Attributes:
        keep_last: Newest pushed versions that are kept, with all their ancestors, whatever else is.
    """

    keep_last: int = Field(default=5, ge=1)


class WorkerOptions(Record):
    """One worker among several.

    Attributes:
        lease_ttl_seconds: How long a worker may be silent before another takes over.
    """

    lease_ttl_seconds: float = Field(default=60.0, gt=0)
