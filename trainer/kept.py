"""What a process keeps from one run to the next, because making it takes seconds: the last few of a kind, by digest.

A run must not tell whether it was kept: keys name all that a value was made of, and numbers are assigned anew.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
NUM_KEPT = 2  # a champion's line, and a shadow model or the graph before a refresh


class Kept(Generic[Value]):
    """The most recently used values of one kind.

    Args:
        max_values: How many are kept at most.

    Example:
        >>> squares = Kept[int](max_values=1)
        >>> squares.get("3", lambda: 9), squares.get("3", lambda: -1), squares.get("4", lambda: 16)
        (9, 9, 16)
        >>> squares.get("3", lambda: 10)
        10
    """

    def __init__(self, max_values: int = NUM_KEPT) -> None:
        self._max_values = max_values
        self._values: OrderedDict[str, Value] = OrderedDict()

    def find(self, key: str) -> Value | None:
        """Return what is kept under a key."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def keep(self, key: str, value: Value) -> Value:
        """Keep a value, drop the least recently used beyond the limit, and return it."""
        self._values[key] = value
        self._values.move_to_end(key)
        while len(self._values) > self._max_values:
            self._values.popitem(last=False)
        return value

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """Return what is kept under a key, or make it and keep it."""
        found = self.find(key)
        return self.keep(key, make()) if found is None else found

    def clear(self) -> None:
        """Forget everything, as a new process would begin."""
        self._values.clear()
