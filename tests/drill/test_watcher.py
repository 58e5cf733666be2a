from datetime import UTC, datetime

import pytest

from ledger.ledger import Ledger
from schemas.ledger_records import ModelRecord
from tools.drill.invariants import serving_was_never_half
from tools.drill.small_pipeline import make_small_pipeline
from tools.drill.watcher import ServingWatcher


@pytest.fixture
def config(tmp_path):
    """A pipeline whose champion, version 1, is served."""
    config = make_small_pipeline(tmp_path / "pipeline", tmp_path, num_spans=0).config
    with Ledger.open(config.ledger_url, config.name) as ledger:
        ledger.record_model(
            ModelRecord(
                version=ledger.reserve_version(),
                run_id="a",
                span=1,
                span_version=1,
                model_uri="m",
                model_digest="m",
                training_digest="t",
                transform_graph_uri="g",
                transform_span=1,
                statistics_uri="s",
                model_shape="{}",
                pushed_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        )
        assert ledger.promote(None, 1)
    expose(config, 1, {"saved_model.pb": "graph", "variables/index": "numbers"})
    return config


def expose(config, version, files):
    for name, text in files.items():
        path = config.serving_path / str(version) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def watch(config, *changes):
    """Look before and after each change; return what the invariant says."""
    watcher = ServingWatcher(config)
    watcher.look()
    for change in changes:
        change()
        watcher.look()
    watcher.look()
    return serving_was_never_half(watcher)


def test_whole_and_promoted_versions_are_all_that_may_be_seen(config):
    hidden = config.serving_path / ".hidden-1"
    assert watch(config) == []
    assert watch(config, lambda: (config.serving_path / "1").rename(hidden)) == []
    assert watch(config, lambda: hidden.rename(config.serving_path / "1")) == []


def test_version_that_grows_or_shrinks_while_it_is_visible_is_half(config):
    grow = watch(config, lambda: expose(config, 1, {"variables/data": "more"}))
    shrink = watch(config, lambda: (config.serving_path / "1" / "saved_model.pb").unlink())
    rewrite = watch(config, lambda: expose(config, 1, {"variables/index": ""}))
    assert grow == shrink == rewrite == ["Version 1 was seen with 2 different contents."]


def test_version_that_is_visible_before_it_is_champion_is_found(config):
    found = watch(config, lambda: expose(config, 2, {"saved_model.pb": "graph"}))
    assert found == ["Version 2 was visible before it was champion."]


def test_nobody_looking_is_no_success(config):
    assert serving_was_never_half(ServingWatcher(config)) == ["Nobody looked at the serving folder."]


def test_thread_looks_by_itself(config):
    watcher = ServingWatcher(config)
    watcher.start()
    watcher.stop()
    assert watcher.num_looks >= 1
    assert set(watcher.contents) == {1}
