"""What a config may say about running by itself: triggers, retries, corrections, and how many models to keep.

In here: the options alone. What they mean is computed in `pipeline.triggers`, `pipeline.repair`, `pipeline.registry`.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from schemas.base import Record
from schemas.training import Initialisation

Action = Literal["train", "score", "shadow"]
Repair = Literal["ignore", "replay", "rerun", "cold_start"]


class CronTrigger(Record):
    """Fires when a cron expression says so, in its own time zone, for all spans that wait at that time.

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
        if len(self.expression.split()) != 5:
            raise ValueError(_cron_rule(self.expression, "wrong number of fields"))
        try:
            next(CronSim(self.expression, datetime.now(UTC).astimezone(zone)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(_cron_rule(self.expression, str(error) or "it never fires")) from error
        return self


def _cron_rule(expression: str, why: str) -> str:
    return f"expected five cron fields such as '0 3 * * 1' in expression; received {expression!r} ({why})"


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
    """Fires, for what waits, while the newest finished span's drift verdict is `severity` or worse."""

    kind: Literal["drift"]
    severity: Literal["warn", "cold_start", "block"] = "cold_start"


class DecayTrigger(Record):
    """Fires, for what waits, while the champion's prequential headline metric has decayed.

    Attributes:
        max_decay: Greatest fall below the best mean before it, as a share of that mean.
        num_spans: Newest spans that must, each, have fallen further.
        window_spans: Spans in the mean.
    """

    kind: Literal["decay"]
    max_decay: float = Field(default=0.05, gt=0)
    num_spans: int = Field(default=2, ge=1)
    window_spans: int = Field(default=4, ge=1)


class ManualTrigger(Record):
    """Fires when a person asks with `perennial trigger`, before all other policies."""

    kind: Literal["manual"]


Trigger = Annotated[
    CronTrigger | NewSpanTrigger | LabelsTrigger | DriftTrigger | DecayTrigger | ManualTrigger,
    Field(discriminator="kind"),
]


class Policy(Record):
    """One line of the table: trigger x data selection x initialisation x action.

    Attributes:
        name: Shown in the ledger and in `status`.
        select: Which of the spans that the trigger fires for: the `next` one in order; the `latest` (those before it
            are skipped, with the reason); or the newest span that is `done` already, for retraining.
        initialisation: How the Trainer starts; None: as `training.initialisation` says.
        action: `train` runs a cycle, `score` validates and scores without training, `shadow` retrains in full beside
            the champion, once for a span.
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

    @model_validator(mode="after")
    def _name_tells_no_shadow_from_a_cycle(self) -> "Policy":
        # A run is known as a shadow model's by this word as its trigger; others have their policy's name.
        if self.name == "shadow" and self.action != "shadow":
            raise ValueError(
                f"expected another name than 'shadow', which marks shadow models; received action={self.action!r}"
            )
        return self

    @model_validator(mode="after")
    def _initialisation_has_a_meaning(self) -> "Policy":
        if self.action != "train" and self.initialisation is not None:
            raise ValueError(
                "expected initialisation with action: train alone, since a score trains nothing and a shadow model "
                f"starts cold; received initialisation={self.initialisation!r} with action={self.action!r}"
            )
        return self


class AdaptiveOptions(Record):
    """Train less while nothing changes: after `stable_spans` spans without a finding, only score, `max_skips` times.

    A person's request is followed as it is, and without a champion everything is trained on.

    Attributes:
        stable_spans: Newest finished spans that must have drift verdict `pass`; None: always train.
        max_skips: Spans in a row that may go untrained.
        max_decay: Greatest fall of the prequential headline metric in the newest one, as in a decay trigger.
    """

    stable_spans: int | None = Field(default=None, ge=1)
    max_skips: int = Field(default=3, ge=1)
    max_decay: float = Field(default=0.05, gt=0)


class TriggerOptions(Record):
    """When the daemon runs what.

    Attributes:
        policies: Looked at in order; the first that fires runs. Names are unique, and one at most is manual.
        min_interval_seconds: From the end of one cycle to the start of the next. A person's request does not wait.
        catch_up: What to do with spans that came while no daemon ran: run `all` or only the `latest`, or skip them,
            with the reason (`none`). A cron policy whose time came meanwhile fires once, for all that waits then;
            with `none` it waits for its next time.
        overlap: What a trigger that fires while a cycle runs does. `queue`: it waits. `skip`: it is dropped; spans that
            came for it are skipped, with the reason, and a cron policy waits for its next time. `replace`: if its
            span is newer, it takes the cycle's place, which is stopped at the next node, and whose span is skipped.
            A person's request always waits.
        adaptive: Train less on stable data.
        daily_compute_seconds: Wall seconds of cycles a day, in UTC; then spans wait for the next. None: no bound. A
            person's request does not wait, and a cycle that runs is not stopped.
        expected_every_seconds: A span is overdue when so long has passed since the last one came; None: never.
        missing_grace_seconds: How long a gap in the span numbers holds the later ones back, from the arrival of the
            first of them. Then it is reported, and they go on.
        poll_seconds: How often to look where nothing tells of new files. A daemon that was away no longer has nothing
            to catch up with.
    """

    policies: tuple[Policy, ...] = Field(
        default=(
            Policy(name="manual", trigger=ManualTrigger(kind="manual")),
            Policy(name="new-span", trigger=NewSpanTrigger(kind="new_span")),
        ),
        min_length=1,
    )
    min_interval_seconds: float = Field(default=300.0, ge=0)
    catch_up: Literal["all", "latest", "none"] = "all"
    overlap: Literal["queue", "skip", "replace"] = "queue"
    adaptive: AdaptiveOptions = AdaptiveOptions()
    daily_compute_seconds: float | None = Field(default=None, gt=0)
    expected_every_seconds: float | None = Field(default=None, gt=0)
    missing_grace_seconds: float = Field(default=3600.0, ge=0)
    poll_seconds: float = Field(default=30.0, gt=0)

    @field_validator("policies")
    @classmethod
    def _names_are_unique(cls, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        names = [policy.name for policy in policies]
        if len(set(names)) != len(names):
            raise ValueError(f"expected policies with names of their own; received {names}")
        manual = [policy.name for policy in policies if policy.trigger.kind == "manual"]
        if len(manual) > 1:
            raise ValueError(
                f"expected one policy at most with trigger manual, since a request names none; received {manual}"
            )
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
    """One worker among several, and the process in which it runs DAGs.

    Attributes:
        lease_ttl_seconds: How long a worker may be silent before another takes over.
        warm: Whether `watch` runs DAGs in a process of their own that stays warm; else in its own process.
        recycle_after_runs: The process is replaced after so many runs, while nothing runs.
        max_memory_mb: The process is replaced when it has grown beyond so many megabytes, while nothing runs. None: no
            bound.
    """

    lease_ttl_seconds: float = Field(default=60.0, gt=0)
    warm: bool = True
    recycle_after_runs: int = Field(default=50, ge=1)
    max_memory_mb: float | None = Field(default=4096.0, gt=0)
