"""Decide, run, record: config, plan, the TFX graph of a plan, runners, decision record. Nodes are elsewhere."""

from core.deferral import defer_imports

# Before anything here imports TFX.
defer_imports()
