"""Flink on this machine, for Beam: what must be fetched, and a small cluster. None of it is needed without Flink."""
