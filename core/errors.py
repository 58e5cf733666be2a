"""The one tree of failures. Verdicts (not blessed, blocked) are data and have no exception here.

PipelineError                     exit 1
├── ConfigError                   exit 2   the config or the command line is wrong
├── SchemaError                   exit 3   data and reviewed schema do not fit each other
├── DataError                     exit 4   a span, file or manifest cannot be used
├── TrainingError                 exit 5   training broke (NaN loss, bad base model)
├── UserCodeError                 exit 6   the user's preprocessing_fn or model function raised
├── ServingError                  exit 7   a model could not be written for, or read by, serving
├── LineageError                  exit 8   ML Metadata cannot answer
├── LedgerError                   exit 9   the ledger cannot be read or refuses a write
│   └── LeaseLostError            exit 9   another worker took the pipeline over; this one may write nothing more
├── NodeError                    exit 10  a DAG node raised something that is none of the above
└── UnavailableError              exit 75  something outside is away for now; the same command may work later
    ├── LeaseHeldError            exit 75  another worker has the pipeline
    ├── WorkerDiedError           exit 75  the process in which a node ran is gone; the run goes on at that node
    └── StoppedError              exit 75  the worker was asked to stop; the run goes on where it stopped

Exit code 75 alone (EX_TEMPFAIL of sysexits.h) says that trying again makes sense without a change.
"""

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """Root of every failure that a user is meant to read.

    Its text is a sentence by the template of our style guide: what happened, what was expected, what was
    received, how to fix it. The command line prints `headline` and that text, without a traceback.
    """

    headline = "Perennial failed"
    retryable = False
    exit_code = 1
    # Whether the span may be the cause: only such failures count towards its quarantine.
    blames_span = False


class ConfigError(PipelineError):
    """The config file or the command line is wrong; nothing was started."""

    headline = "Config error"
    exit_code = 2


class SchemaError(PipelineError):
    """Data and reviewed schema contradict each other."""

    headline = "Schema error"
    exit_code = 3
    blames_span = True


class DataError(PipelineError):
    """A source, span, manifest or TFRecord file is missing, corrupt or empty."""

    headline = "Data error"
    exit_code = 4
    blames_span = True


class TrainingError(PipelineError):
    """Training broke; no candidate was made and the champion is untouched."""

    headline = "Training error"
    exit_code = 5
    blames_span = True


class UserCodeError(PipelineError):
    """A function that the user's config names raised or returned something unusable."""

    headline = "User code error"
    exit_code = 6
    blames_span = True


class ServingError(PipelineError):
    """The serving folder cannot be written, or a pushed model cannot be read."""

    headline = "Serving error"
    exit_code = 7


class LineageError(PipelineError):
    """ML Metadata has no answer, or is no metadata store."""

    headline = "Lineage error"
    exit_code = 8


class LedgerError(PipelineError):
    """The ledger cannot be opened, or a write lost against another worker's."""

    headline = "Ledger error"
    exit_code = 9


class NodeError(PipelineError):
    """A node of the DAG raised an exception of TFX, Beam or TensorFlow; its cause is chained."""

    headline = "Node failed"
    exit_code = 10
    blames_span = True


class LeaseLostError(LedgerError):
    """Another worker took the pipeline over, so this one must stop: what it knows is out of date."""


class UnavailableError(PipelineError):
    """A disk, a database or a folder is full, locked or gone for now. Nothing was lost; it is worth trying again."""

    headline = "Not available now"
    retryable = True
    exit_code = 75


class LeaseHeldError(UnavailableError):
    """Another worker that is alive has the pipeline."""


class WorkerDiedError(UnavailableError):
    """The process that ran the DAG crashed or was killed. A span on which it does so again may be the cause."""

    blames_span = True


class StoppedError(UnavailableError):
    """The worker was asked to stop and did so between two nodes; what is finished stays finished."""

    headline = "Stopped"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the known word nearest to `word`, or an empty string.

    Example:
        >>> did_you_mean("carier", ["carrier", "origin"])
        " Did you mean 'carrier'?"
        >>> did_you_mean("zzz", ["carrier"])
        ''
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
