"""What the daemon says while it works: one JSON object a line for machines, or a plain line for people.

Every line names its pipeline; extra fields such as `event`, `run_id`, `span` and `policy` are given with each message.
"""

import logging
import re
from typing import IO, Any, Literal

from pythonjsonlogger.json import JsonFormatter

LOGGER_NAME = "perennial"
LogForm = Literal["json", "text"]

# A user and a password in a URL, as SQLAlchemy's messages may quote them.
_CREDENTIALS = re.compile(r"://[^/\s@]*@")
_HIDDEN = "://***@"
_FIELDS = ("event", "policy", "span", "run_id")


def hide_credentials(text: str) -> str:
    """Return `text` without the users and passwords of URLs.

    Example:
        >>> hide_credentials("cannot reach postgresql://me:secret@db/ledger")
        'cannot reach postgresql://***@db/ledger'
    """
    return _CREDENTIALS.sub(_HIDDEN, text)


class _JsonForm(JsonFormatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return hide_credentials(super().format(record))


class _TextForm(logging.Formatter):
    """A line for a terminal; the fields that say what it is about stand behind the sentence."""

    def format(self, record: logging.LogRecord) -> str:
        fields = [f"{name}={value}" for name in _FIELDS if (value := getattr(record, name, None)) is not None]
        line, newline, trace = super().format(record).partition("\n")
        about = f"  [{' '.join(fields)}]" if fields else ""
        return hide_credentials(f"{line}{about}{newline}{trace}")


class Log(logging.LoggerAdapter[logging.Logger]):
    """Adds the pipeline's name to each message, and keeps what else the message carries."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Merge both sets of fields; logging's own adapter drops the message's."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **kwargs.get("extra", {})}}


def make_log(pipeline: str) -> Log:
    """Return the log of one pipeline's daemon."""
    return Log(logging.getLogger(LOGGER_NAME), {"pipeline": pipeline})


def write_logs(stream: IO[str], form: LogForm) -> logging.Handler:
    """Send what Perennial says to `stream`, and what other libraries say by their loggers' own levels.

    All of it takes the same form: a reader of JSON lines would stumble over TensorFlow's plain ones.
    """
    handler = logging.StreamHandler(stream)
    if form == "json":
        names = ["levelname", "name", "message"]
        handler.setFormatter(_JsonForm(names, rename_fields={"levelname": "level", "name": "logger"}, timestamp="at"))
    else:
        handler.setFormatter(_TextForm("%(asctime)s %(levelname)-7s %(message)s"))
    # With a handler at the root, no library gives it one of its own.
    logging.getLogger().addHandler(handler)
    logging.getLogger(LOGGER_NAME).setLevel(logging.INFO)
    return handler
