"""A Kubeflow Pipelines API server for tests: real HTTP on this machine, checked by the official client's own models.

What it refuses, and with which code, is what the real server does; what its runs do is said by a test.
"""

from tools.fake_kfp.server import FakeKfp
from tools.fake_kfp.state import Fault, Step

__all__ = ["FakeKfp", "Fault", "Step"]
