"""Runs nodes of a DAG side by side. What a node is, and what is recorded of it, others know."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from queue import SimpleQueue


def run_side_by_side(
    upstream: Mapping[str, Collection[str]], launch: Callable[[str], None], *, max_parallel: int
) -> None:
    """Launch every node as soon as all those upstream of it are done; of those that may start, the longest way first.

    After a failure nothing new starts, and what runs is let finish. The threads do not keep the process alive: a hung
    node must not.

    Args:
        upstream: The nodes each node waits for, in topological order.
        launch: Runs a node to its end, in a thread of its own.
        max_parallel: Most nodes at a time.

    Raises:
        BaseException: what the first node that failed raised, in the order of `upstream`.
    """
    waiting = _longest_way_first(upstream)
    ended: SimpleQueue[tuple[str, BaseException | None]] = SimpleQueue()
    running: set[str] = set()
    done: set[str] = set()
    failures: dict[str, BaseException] = {}

    def run(node_id: str) -> None:
        try:
            launch(node_id)
        except BaseException as error:
            ended.put((node_id, error))
        else:
            ended.put((node_id, None))

    while True:
        ready = [] if failures else [node_id for node_id in waiting if done.issuperset(upstream[node_id])]
        for node_id in ready[: max_parallel - len(running)]:
            waiting.remove(node_id)
            running.add(node_id)
            threading.Thread(target=run, args=(node_id,), name=node_id, daemon=True).start()
        if not running:
            break
        node_id, failure = ended.get()
        running.remove(node_id)
        if failure is None:
            done.add(node_id)
        else:
            failures[node_id] = failure
    if failures:
        raise next(failures[node_id] for node_id in upstream if node_id in failures)


def _longest_way_first(upstream: Mapping[str, Collection[str]]) -> list[str]:
    """Return the nodes by how many come one after another behind them: what the end waits for longest starts first."""
    length: dict[str, int] = {}
    for node_id in reversed(list(upstream)):
        behind: Iterable[str] = (other for other in length if node_id in upstream[other])
        length[node_id] = 1 + max((length[other] for other in behind), default=0)
    return sorted(upstream, key=lambda node_id: -length[node_id])
