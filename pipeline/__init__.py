"""Decide, run, record: config, plan, the TFX graph of a plan, runners, decision record. Nodes are elsewhere."""
