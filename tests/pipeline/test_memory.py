import gc
import weakref

from pipeline.memory import release_memory


class Model:
    """Refers to itself, as graphs and models do."""

    def __init__(self):
        self.itself = self


def test_what_refers_to_itself_goes():
    gc.disable()
    try:
        left_behind = weakref.ref(Model())
        assert left_behind() is not None
        release_memory()
        assert left_behind() is None
    finally:
        gc.enable()
