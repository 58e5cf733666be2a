"""`perennial watch`: the daemon that runs what is due, for ever or once."""

import os
import signal
import sys
import threading
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import config_options, runner_option
from core.errors import ConfigError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.ledger import Ledger
    from pipeline.config import Config, RunnerName
    from pipeline.cycle import Dag, Listeners
    from pipeline.cycle_thread import CycleRunner, Result
    from pipeline.daemon import Daemon
    from pipeline.logs import LogForm
    from pipeline.plan import Request
    from schemas.spans import SpanRef

DEFAULT_GRACE_SECONDS = 600.0


@click.command(short_help="Run what is due, on its own schedule, until it is told to stop.")
@config_options
@click.option(
    "--once", "is_once", is_flag=True, help="Run everything that is due now, then exit, as a CronJob wants it."
)
@click.option(
    "--health-port",
    type=click.IntRange(min=0, max=65535),
    help="Answer /healthz, /readyz and /status there; 0: any free port, which is printed.",
)
@click.option(
    "--health-host", default="127.0.0.1", show_default=True, help="Address to answer on; 0.0.0.0 for a pod's probes."
)
@click.option(
    "--grace-seconds",
    type=click.FloatRange(min=0),
    default=DEFAULT_GRACE_SECONDS,
    show_default=True,
    help="How long SIGTERM waits for the running node.",
)
@click.option("--log", "log_form", type=click.Choice(["json", "text"]), help="Default: text on a terminal, else json.")
@runner_option
def watch(
    config_path: Path,
    overrides: tuple[str, ...],
    is_once: bool,
    health_port: int | None,
    health_host: str,
    grace_seconds: float,
    log_form: "LogForm | None",
    runner: "RunnerName | None",
) -> None:
    r"""Look for spans, decide by the policies of `triggers`, run cycles. What a dead worker left is finished first.

    SIGTERM or SIGINT: the running cycle stops at its next node, and goes on there the next time; a second one leaves at
    once. Either way the exit code is 0. Several may watch one pipeline: one works, the others stand by.

    \b
    Example:
      perennial watch --health-port 8080
      perennial watch --once --log json
      perennial watch --set triggers.poll_seconds=5 --log text
    """
    from pipeline.config import load_config
    from pipeline.logs import make_log, write_logs

    config = load_config(config_path, overrides)
    config = config.model_copy(update={"runner": runner}) if runner else config
    # Asked for now, so that a missing variable is said at once and not by every look.
    url = config.ledger_url
    quiet_libraries()
    write_logs(sys.stderr, log_form or ("text" if sys.stderr.isatty() else "json"))
    with ExitStack() as stack:
        daemon = _make_daemon(stack, config, url, grace_seconds, is_once=is_once)
        _stop_on_signals(daemon)
        if health_port is not None:
            _serve_health(stack, daemon, health_host, health_port)
        if is_once:
            daemon.run_once()
        else:
            _watch_folders(stack, daemon, config)
            daemon.run()
    make_log(config.name).info("Left.", extra={"event": "left"})
    if daemon.has_left_work:
        # A node that hangs would keep the interpreter from ending; all that counts is in the ledger.
        os._exit(0)


def _make_daemon(stack: ExitStack, config: "Config", url: str, grace_seconds: float, *, is_once: bool) -> "Daemon":
    from core.clock import SystemClock
    from ledger.ledger import Ledger
    from pipeline.daemon import Daemon
    from pipeline.dags import warm_dag
    from pipeline.term import Seams

    @cache
    def dag() -> "Dag":
        # Made when the lease is taken: who stands by needs no process that has TensorFlow loaded.
        return stack.enter_context(
            warm_dag(
                config,
                is_at_once=not is_once,
                on_change=lambda status: daemon.board.update(worker=status),
                echo=partial(click.echo, err=True),
            )
        )

    def open_ledger() -> Ledger:
        return Ledger.open(url, config.name)

    def runner_of(ledger: Ledger, listeners: "Listeners") -> "CycleRunner":
        from pipeline.controller import Controller

        return _Summarised(
            Controller(config, ledger, dag=dag(), listeners=listeners), lambda: _write_summary(config, ledger)
        )

    daemon = Daemon(config, Seams(runner_of, open_ledger, SystemClock()), grace_seconds=grace_seconds)
    return daemon


class _Summarised:
    """A runner after whose cycles the pipeline's summary is written, in the thread of the cycle."""

    def __init__(self, runner: "CycleRunner", write: "Callable[[], None]") -> None:
        self._runner = runner
        self._write = write

    def reconcile_serving(self) -> None:
        self._runner.reconcile_serving()

    def resume(self) -> "Result":
        return self._written(self._runner.resume())

    def abandon(self, run_id: str, why: str) -> None:
        self._runner.abandon(run_id, why)

    def run_request(self, request: "Request") -> "Result":
        return self._written(self._runner.run_request(request))

    def deferred_spans(self) -> "frozenset[SpanRef]":
        return self._runner.deferred_spans()

    def _written(self, result: "Result") -> "Result":
        from pipeline.decision import Decision

        if isinstance(result, Decision):
            self._write()
        return result


def _write_summary(config: "Config", ledger: "Ledger") -> None:
    from pipeline.logs import make_log
    from pipeline.summary import write_pipeline_summary

    try:
        write_pipeline_summary(config, ledger)
    except Exception:
        # A page for people must not make a cycle fail that is recorded already.
        make_log(config.name).exception("The summary could not be written.", extra={"event": "no_summary"})


def _stop_on_signals(daemon: "Daemon") -> None:
    def stop(number: int, frame: object) -> None:
        # Not in the handler itself: it may have interrupted the main thread inside a lock that `stop` takes.
        threading.Thread(target=daemon.stop, name="stop").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _serve_health(stack: ExitStack, daemon: "Daemon", host: str, port: int) -> None:
    from pipeline.health import HealthServer

    try:
        server = HealthServer(daemon.board, port, host)
    except OSError as error:
        raise ConfigError(
            f"Nothing can listen on {host}:{port}: {error.strerror or error}. Expected a free port on an address of "
            "this machine. Choose another with --health-port and --health-host, or 0 for any."
        ) from error
    server.start()
    stack.callback(server.stop)
    click.echo(f"health: http://{host}:{server.port}", err=True)


def _watch_folders(stack: ExitStack, daemon: "Daemon", config: "Config") -> None:
    from pipeline.logs import make_log
    from pipeline.waker import Waker, folders_to_watch

    config.spans_path.mkdir(parents=True, exist_ok=True)
    waker = Waker(folders_to_watch(config), daemon.wake)
    sentence = f"{waker.start()} Every {config.triggers.poll_seconds:g} s."
    stack.callback(waker.stop)
    make_log(config.name).info("%s", sentence, extra={"event": "watching"})
