from pathlib import Path

import pytest

from core.errors import ConfigError, DataError
from pipeline.kubeflow.local_store import LocalStore, launcher_path

ROOT = "minio://bucket/root"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def made(tmp_path):
    """What a task left: a file in a folder, a link to it, and an empty folder."""
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "empty").mkdir()
    (made / "inner/file").write_text("x")
    (made / "link").symlink_to(made / "inner/file")
    return made


def test_what_was_uploaded_comes_back_as_files(store, made, tmp_path):
    assert store.upload(made, f"{ROOT}/made", pipeline_root=ROOT)
    assert store.download(f"{ROOT}/made", tmp_path / "back")
    found = {str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*")}
    assert found == {"inner", "inner/file", "link"}
    assert not (tmp_path / "back/link").is_symlink()


def test_a_single_file_is_an_artifact_too(store, made, tmp_path):
    store.upload(made / "inner/file", f"{ROOT}/file", pipeline_root=ROOT)
    assert store.download(f"{ROOT}/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "x"


def test_nothing_is_no_error_either_way(store, tmp_path):
    assert not store.upload(tmp_path / "gone", f"{ROOT}/gone", pipeline_root=ROOT)
    assert not store.download(f"{ROOT}/gone", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_second_upload_replaces_the_first(store, made):
    store.upload(made, f"{ROOT}/made", pipeline_root=ROOT)
    (made / "link").unlink()
    store.upload(made, f"{ROOT}/made", pipeline_root=ROOT)
    assert not (store.path_of(f"{ROOT}/made") / "link").exists()


def test_an_upload_outside_the_pipeline_root_is_refused(store, made):
    with pytest.raises(DataError, match="output lies at 'minio://bucket/rooted'"):
        store.upload(made, "minio://bucket/rooted", pipeline_root=ROOT)


def test_no_uri_leads_out_of_the_store(store):
    with pytest.raises(ConfigError, match="leaves its root"):
        store.path_of("minio://../../etc/passwd")


@pytest.mark.parametrize(
    ("uri", "path"),
    [("minio://b/k", "/local/minio/b/k"), ("gs://b/k", "/local/gcs/b/k"), ("/data/model", "/data/model")],
)
def test_the_launchers_paths_lie_below_a_folder(uri, path):
    assert launcher_path(uri, Path("/local")) == Path(path)
