"""Records in, spans out: sources, event-time windows, the span writer and its manifests.

In here: everything up to a verified span on disk. Not in here: whether its data is fit to train on (components), and
which span a run reads (pipeline).
"""
