"""Which code ran: the digest of our own source files, recorded with every model."""

from pathlib import Path

from core.digests import digest_of_file, digest_of_json

PACKAGES = (
    "cli", "components", "core", "ingest", "ledger", "lineage", "monitoring", "pipeline", "records", "schemas",
    "serving", "trainer", "transform",
)  # fmt: skip


def digest_of_code() -> str:
    """Return one digest over all Python files of our packages, by their names."""
    root = Path(__file__).parents[1]
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return digest_of_json([[file.relative_to(root).as_posix(), digest_of_file(file)] for file in files])
