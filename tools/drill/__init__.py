"""`make drill`: break real processes in every way that a night can bring, and prove that nothing is lost or done twice.

In here: scenarios over real cycles of a small pipeline. Not in here: tests of single parts, which `tests/` has.
"""
