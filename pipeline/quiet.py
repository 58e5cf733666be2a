"""Quiet start-up for the commands that load TensorFlow."""

import atexit
import gc
import logging
import os
import sys
import warnings


def quiet_libraries() -> None:
    """Keep the notes of TensorFlow, TFX and Beam off the terminal; their errors come as exceptions."""
    # TensorFlow reads these when it is imported. oneDNN's reordered sums would make the same plan give other floats
    # on another CPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
    # Graphs make objects by the million that all live on: looking for garbage among them takes a tenth of a cycle.
    gc.set_threshold(100_000, 50, 100)
    # TensorFlow 2.16 complains about its own destructors while the interpreter shuts down.
    atexit.register(setattr, sys, "unraisablehook", bool)
