"""`make bench`: run the benchmark of a cycle, others by name, or `all` of them, each in a process of its own."""

import runpy
import subprocess
import sys

MODULES = {
    "cycle": "benchmarks.cycle",
    "engines": "benchmarks.engines",
    "bookkeeping": "benchmarks.bookkeeping",
    "ledger": "benchmarks.ledger",
    "lineage": "benchmarks.lineage_scale",
    "metadata": "benchmarks.metadata_growth",
    "long": "benchmarks.long_run",
    "trainer": "benchmarks.trainer_input",
}


DEFAULT = "cycle"
ALL = "all"


def main(names: list[str]) -> int:
    """Run what is named, or the default; return an exit code."""
    names = list(MODULES) if names == [ALL] else names or [DEFAULT]
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        print(f"Unknown benchmark {unknown[0]!r}. Expected one of: {', '.join(MODULES)}, or {ALL}.", file=sys.stderr)
        return 2
    if len(names) == 1:
        sys.argv = [MODULES[names[0]]]  # the name is ours, no argument of the benchmark's
        runpy.run_module(MODULES[names[0]], run_name="__main__")
        return 0
    return max(subprocess.run([sys.executable, "-m", MODULES[name]]).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
