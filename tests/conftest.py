"""What holds for the whole suite."""

import gc


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later garbage collection, and collect seldom, as the command does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
