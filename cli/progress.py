"""What a person watches while cycles run, and how a person or a service manager stops them."""

import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from rich.console import Console

    from pipeline.decision import Decision
    from pipeline.plan import RunPlan, Skip

COLOURS = {"pushed": "green", "rejected": "yellow", "blocked": "red"}


def stop_on_sigterm(stop: "Event") -> None:
    """Let SIGTERM stop the run before its next node; a second one ends the process. It goes on there either way."""

    def ask_to_stop(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask_to_stop)


class Progress:
    """What a person watches during a run: the plan, the node that is running, and the outcome of each span."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status = console.status("starting TFX")
        self._started = time.monotonic()
        self._label = ""

    def on_plan(self, plan: "RunPlan") -> None:
        """Print why the cycle reads what it reads."""
        self._label = f"span {plan.span.span}"
        self._started = time.monotonic()
        for sentence in plan.why:
            self._console.print(f"[bold]{self._label}[/bold]  {sentence}")
        self._status.update(f"{self._label}: starting TFX")
        self._status.start()

    def on_node(self, node_id: str) -> None:
        """Say which node runs."""
        self._status.update(f"{self._label}: {node_id} ({time.monotonic() - self._started:.0f} s)")
        if not self._console.is_terminal:
            self._console.print(f"{self._label}  {time.monotonic() - self._started:5.1f} s  {node_id}")

    def close(self) -> None:
        """Take the line of the running node away."""
        self._status.stop()

    def on_result(self, result: "Decision | Skip") -> None:
        """Print how the cycle ended."""
        from pipeline.plan import Skip

        self.close()
        if isinstance(result, Skip):
            self._console.print(result.reason)
            return
        self._print(self._label, result)
        if result.shadow is not None:
            self._print(f"{self._label} shadow", result.shadow)

    def _print(self, label: str, decision: "Decision") -> None:
        reasons = " ".join(decision.reasons[len(decision.plan.why) :][:2])
        self._console.print(
            f"[bold]{label}[/bold]  [{COLOURS.get(decision.outcome, 'default')}]{decision.outcome}[/] in "
            f"{decision.seconds['total']:.1f} s. {reasons}"
        )
