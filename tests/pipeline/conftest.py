from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.plan import Knowledge
from schemas.features import FeatureSet, LabelSpec, NumericFeature, VocabularyFeature
from schemas.ledger_records import ChampionRecord, SpanRecord
from schemas.spans import SpanRef
from schemas.training import ModelOptions, ModelShape

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHAPE = ModelShape(
    feature_set=FeatureSet(
        features={"dest": VocabularyFeature(kind="vocabulary"), "temp": NumericFeature(kind="numeric")},
        label=LabelSpec(name="late"),
    ),
    model=ModelOptions(),
)


def _ref(span: int, version: int = 1) -> SpanRef:
    return SpanRef(span=span, version=version, digest=f"digest-{span}-{version}")


@pytest.fixture
def make_ref() -> Callable[..., SpanRef]:
    return _ref


@pytest.fixture(scope="session")
def make_champion() -> Callable[..., ChampionRecord]:
    def make(**changes: Any) -> ChampionRecord:
        fields = {
            "version": 4,
            "run_id": "run-8",
            "span": 8,
            "span_version": 1,
            "model_uri": "/models/8",
            "model_digest": "m",
            "training_digest": "t",
            "transform_graph_uri": "/transform/8",
            "transform_span": 8,
            "statistics_uri": "/statistics/8",
            "model_shape": SHAPE.model_dump_json(),
            "pushed_at": NOW,
            "moved_at": NOW,
        }
        return ChampionRecord.model_validate({**fields, **changes})

    return make


@pytest.fixture(scope="session")
def make_knowledge() -> Callable[..., Knowledge]:
    """Spans 1..num_spans on disk, of which `states` (by span) have a row in the ledger."""

    def make(
        num_spans: int,
        states: dict[int, str] | None = None,
        champion: ChampionRecord | None = None,
        unusable: dict[int, str] | None = None,
        last_full_training_span: int | None = None,
    ) -> Knowledge:
        records = [
            SpanRecord.model_validate(
                {
                    **_ref(span).model_dump(),
                    "state": state,
                    "num_examples": 10,
                    "statistics_uri": None if state in ("arrived", "trained") else f"/statistics/{span}",
                    "replay_uri": f"/replay/{span}" if state == "pushed" else None,
                    "prequential": {"auc": span / 100} if state == "pushed" else None,
                    "updated_at": NOW,
                }
            )
            for span, state in (states or {}).items()
        ]
        return Knowledge(
            spans=tuple(_ref(span) for span in range(1, num_spans + 1) if span not in (unusable or {})),
            unusable=unusable or {},
            records=tuple(records),
            champion=champion,
            shape=SHAPE,
            last_full_training_span=last_full_training_span,
        )

    return make


@pytest.fixture
def shape() -> ModelShape:
    """Shape of the config that all champions here were made from."""
    return SHAPE


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Write conf/flights.yaml with some top-level keys replaced."""

    def write(**changes: Any) -> Path:
        tree = yaml.safe_load(Path("conf/flights.yaml").read_text())
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump({**tree, **changes}))
        return path

    return write
