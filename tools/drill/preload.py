"""What the fork server imports once, so that a worker is up in a tenth of a second instead of ten seconds.

Nothing here starts a thread or builds a graph on import: a fork would inherit half of it.
"""

from pipeline.quiet import quiet_libraries

# Before TensorFlow is imported, which reads what is set there.
quiet_libraries()

import cli.main  # noqa: E402, F401
import ingest.ingestion  # noqa: E402, F401
import pipeline.controller  # noqa: E402
import pipeline.graph  # noqa: E402
import pipeline.record  # noqa: E402
import pipeline.runners  # noqa: E402, F401
import tools.drill.facts  # noqa: E402, F401
import trainer.run_fn  # noqa: E402, F401
