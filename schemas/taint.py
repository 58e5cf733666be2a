"""What a corrected or bad version of a span taints, as values. How it is found out is in `ledger/taint.py`."""

from typing import Literal

from schemas.base import Record
from schemas.ledger_records import ModelRecord
from schemas.spans import SpanRef

# By what a model took the taint up: it trained on the version itself, started from a tainted model, was shown a tainted
# buffer's examples again, or reads its features through a tainted transform graph.
TaintPath = Literal["window", "base", "replay", "transform"]
# What a pushed model is now. `hidden`: above the champion, so that serving must not see it.
ModelFate = Literal["serving", "kept", "hidden", "removed"]


class TaintedModel(Record):
    """A model that learned from a tainted version, by the shortest way that it did.

    Attributes:
        version: Number that serving knows it by.
        span: Span whose arrival made it.
        path: By what it took the taint up.
        through: What that was: `span 9 version 1`, `model version 4`, or the URI of a buffer or graph.
        fate: What became of it.
    """

    version: int
    span: int
    path: TaintPath
    through: str
    fate: ModelFate


class TaintedBuffer(Record):
    """A replay buffer with examples of a tainted version.

    Attributes:
        is_certain: Its membership says so; otherwise that could not be read, and it may hold some.
    """

    uri: str
    is_certain: bool


class CleanAncestor(Record):
    """Where a repair may start from.

    Attributes:
        model: The champion's nearest ancestor, or itself, that is not tainted and whose files are there.
        replay_uri: The newest clean replay buffer of its time; None where there is none.
    """

    model: ModelRecord
    replay_uri: str | None


class Taint(Record):
    """Everything that rests on some versions of spans.

    Attributes:
        sources: The versions.
        statistics: URIs of their own statistics, and of reference statistics of windows with them.
        transform_graphs: URIs of graphs that were analysed on them, or grown from a tainted model's.
        replay_buffers: Buffers that hold, or may hold, examples of them, in the order they were written.
        models: Every pushed model that learned from them, by version.
        champion_version: The model that serves; None before the first.
        champion_is_tainted: Whether it is among `models`.
        clean_ancestor: The last clean ancestor of the champion; None where the whole line is tainted.
        learned_since: What the champion's line learned after that ancestor, or ever where there is none, by span.
    """

    sources: tuple[SpanRef, ...]
    statistics: tuple[str, ...] = ()
    transform_graphs: tuple[str, ...] = ()
    replay_buffers: tuple[TaintedBuffer, ...] = ()
    models: tuple[TaintedModel, ...] = ()
    champion_version: int | None = None
    champion_is_tainted: bool = False
    clean_ancestor: CleanAncestor | None = None
    learned_since: tuple[SpanRef, ...] = ()
