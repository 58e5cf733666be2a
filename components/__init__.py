"""One TFX component a file: read artifacts, call a pure function of a sibling, write artifacts. No logic of its own."""

from core.deferral import defer_imports

# Before any node imports TFX.
defer_imports()
