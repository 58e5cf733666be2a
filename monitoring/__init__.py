"""Drift of a span's statistics, the gate's table and the HTML summary: measured and put into words.

Nothing here stops a run or moves a model: what follows from a verdict is decided by `components` and `pipeline`.
"""
