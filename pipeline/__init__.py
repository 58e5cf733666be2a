"""Decide, run, record: config, plan, the TFX graph of a plan, runners, decision record. What nodes do is in siblings."""
