"""Decide, run, record: the config, the plan, the TFX graph of a plan, its runners, and what is written down afterwards."""
