"""What a process keeps because making it takes long: the last few of a kind, by what they were made of.

A result must not tell whether it was kept, so a key names all that the value depends on.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The most recently used values of one kind. Threads may share it, and may make the same value twice.

    Args:
        max_values: How many are kept at most.

    Example:
        >>> squares = Kept[int](max_values=1)
        >>> squares.get(3, lambda: 9), squares.get(3, lambda: -1), squares.get(4, lambda: 16)
        (9, 9, 16)
        >>> squares.get(3, lambda: 10), len(squares)
        (10, 1)
    """

    def __init__(self, max_values: int) -> None:
        self._max_values = max_values
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def find(self, key: Hashable) -> Value | None:
        """Return what is kept under a key."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Hashable, value: Value) -> Value:
        """Keep a value in place of the least recently used, and return it."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._max_values:
                self._values.popitem(last=False)
        return value

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return what is kept under a key, or make it and keep it."""
        found = self.find(key)
        return self.keep(key, make()) if found is None else found

    def clear(self) -> None:
        """Forget everything, as a new process would begin."""
        with self._lock:
            self._values.clear()
