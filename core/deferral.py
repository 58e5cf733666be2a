"""Libraries whose own code runs when it is needed, not when something beside it is imported.

TFX's packages import in their `__init__` all that they have: one component brings Kubernetes' client and NLTK, and the
launcher Apache Beam with BigQuery's client. A cycle that runs in process needs none of it, and a new process would wait
seconds for it. In here: an import hook, and what it is for. `pipeline` and `components` install it before they import.
"""

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# Packages whose submodules do not need what the package's `__init__` does. Not Beam and not TFT: theirs import one
# another in an order that only `__init__` knows.
DEFERRED_PACKAGES = frozenset(
    # Keras asks for Matplotlib in a file of image galleries.
    {"matplotlib.pyplot", "tensorflow_data_validation", "tensorflow_model_analysis", "tfx.components"}
)
# Modules of TFX that are written to do without Beam, by an `except` around its import.
BEAMLESS_MODULES = frozenset(
    {
        "tfx.dsl.component.experimental.annotations",
        "tfx.dsl.component.experimental.decorators",
        "tfx.dsl.component.experimental.function_parser",
        "tfx.dsl.components.base.base_beam_executor",
        "tfx.orchestration.portable.beam_executor_operator",
    }
)
_BEAM = "apache_beam"


def defer_imports() -> None:
    """Install the hook, once. What is imported already stays as it is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds modules as Python does, and gives some of them another loader."""

    def __init__(self) -> None:
        # Of each thread its own: what one thread imports must not lack Beam because another imports TFX's launcher.
        self._beamless = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _BEAM and getattr(self._beamless, "is_inside", False):
            raise ModuleNotFoundError(f"{_BEAM} is imported at its first use.", name=_BEAM)
        if fullname not in DEFERRED_PACKAGES and fullname not in BEAMLESS_MODULES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            is_deferred = fullname in DEFERRED_PACKAGES
            spec.loader = _DeferringLoader(spec.loader) if is_deferred else _BeamlessLoader(spec.loader, self._beamless)
        return spec


class _Wrapper(Loader):
    """A loader that does what another does, but when and how it runs a module's code."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def __getattr__(self, name: str) -> Any:
        # `pkgutil` and `importlib.resources` ask loaders for files.
        return getattr(self._loader, name)


class _DeferringLoader(_Wrapper):
    """Runs a module's code at the first use of a name in it that is no submodule."""

    def exec_module(self, module: ModuleType) -> None:
        lock = threading.RLock()
        is_running = False

        def find_attribute(name: str) -> Any:
            nonlocal is_running
            # Python and its tools ask every module for such names, and live without.
            if name.startswith("__"):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} yet")
            if (submodule := _submodule(module, name)) is not None:
                return submodule
            # Another thread waits here until all names are there.
            with lock:
                if is_running:
                    raise AttributeError(f"partially initialized module {module.__name__!r} has no attribute {name!r}")
                if module.__dict__.get("__getattr__") is find_attribute:
                    is_running = True
                    try:
                        self._loader.exec_module(module)
                    finally:
                        is_running = False
                    if module.__dict__.get("__getattr__") is find_attribute:
                        del module.__dict__["__getattr__"]
            return getattr(module, name)

        module.__dict__["__getattr__"] = find_attribute


def _submodule(module: ModuleType, name: str) -> ModuleType | None:
    path = getattr(module, "__path__", None)
    fullname = f"{module.__name__}.{name}"
    if path is None or PathFinder.find_spec(fullname, path) is None:
        return None
    return importlib.import_module(fullname)


class _BeamlessLoader(_Wrapper):
    """Runs a module's code as if Beam were not installed, unless it is imported, and gives it Beam for later."""

    def __init__(self, loader: Loader, beamless: threading.local) -> None:
        super().__init__(loader)
        self._beamless = beamless

    def exec_module(self, module: ModuleType) -> None:
        was_inside = getattr(self._beamless, "is_inside", False)
        self._beamless.is_inside = True
        try:
            self._loader.exec_module(module)
        finally:
            self._beamless.is_inside = was_inside
        if module.__dict__.get("beam", module) is None:
            module.__dict__["beam"] = _Later(_BEAM)


class _Later(ModuleType):
    """Stands for a module that is imported at the first use of a name in it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)
