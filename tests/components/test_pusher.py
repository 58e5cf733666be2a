from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.pusher import Pusher
from core.digests import digest_of_folder
from core.errors import ServingError
from schemas.model_layout import SERVING_FOLDER
from schemas.provenance import PUSHED, PUSHED_DESTINATION, PUSHED_VERSION


@pytest.fixture
def push(make_artifact, make_model, make_blessing):
    def push(destination, *, version=1, is_blessed=True):
        pushed, model = make_artifact(standard_artifacts.PushedModel, "pushed"), make_model()
        Pusher.test_call(
            model=model,
            blessing=make_blessing(is_blessed=is_blessed),
            pushed_model=pushed,
            destination=str(destination),
            version=version,
        )
        return pushed, Path(model.uri) / SERVING_FOLDER

    return push


def test_blessed_model_is_staged_whole_where_no_server_sees_it(push, tmp_path):
    pushed, saved_model = push(tmp_path / "serving", version=4)
    assert pushed.get_int_custom_property(PUSHED) == 1
    assert pushed.get_int_custom_property(PUSHED_VERSION) == 4
    assert pushed.get_string_custom_property(PUSHED_DESTINATION) == str(tmp_path / "serving" / "4")
    assert [path.name for path in (tmp_path / "serving").iterdir()] == [".hidden-4"]
    assert digest_of_folder(tmp_path / "serving" / ".hidden-4") == digest_of_folder(saved_model)


def test_model_that_is_not_blessed_is_recorded_and_not_staged(push, tmp_path):
    pushed, _ = push(tmp_path / "serving", is_blessed=False)
    assert pushed.get_int_custom_property(PUSHED) == 0
    assert not pushed.has_custom_property(PUSHED_VERSION)
    assert not (tmp_path / "serving").exists()


def test_version_that_serves_is_never_overwritten(push, tmp_path):
    existing = tmp_path / "serving" / "4" / "saved_model.pb"
    existing.parent.mkdir(parents=True)
    existing.write_bytes(b"served")
    with pytest.raises(ServingError, match=r"Version 4 is in .* already"):
        push(tmp_path / "serving", version=4)
    assert existing.read_bytes() == b"served"


def test_destination_that_cannot_be_written_leaves_nothing_behind(push, tmp_path):
    (tmp_path / "serving").write_text("a file, where a folder is expected")
    with pytest.raises(ServingError, match="Version 1 could not be written to"):
        push(tmp_path / "serving" / "flights")
    assert (tmp_path / "serving").read_text() == "a file, where a folder is expected"
