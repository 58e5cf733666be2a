"""What a scheduled run does in the cluster: `perennial run --next --runner kubeflow`; its config is an argument.

No command of `perennial`: the controller's package names this module, `python -m cli.kubeflow_controller`.
"""

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from cli.main import main


def controller_main() -> None:
    """Write the config to a file, since that is what commands read, and plan and run what is due."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="The resolved config, as JSON.")
    text = parser.parse_args().config
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(text, encoding="utf-8")
        sys.argv = ["perennial", "run", "--config", str(path), "--next", "--runner", "kubeflow"]
        main()


if __name__ == "__main__":
    controller_main()
