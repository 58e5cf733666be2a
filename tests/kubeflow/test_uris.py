"""URIs and the launcher's paths: one mapping, there and back, that leads nowhere else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError, LineageError
from pipeline.kubeflow.uris import LOCAL_ROOT_VARIABLE, check_brought, is_remote, local_path, uri_of

NAMES = st.text("abcXYZ019-_. ", min_size=1, max_size=8).filter(lambda name: name.strip(". "))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://mlpipeline/v2/artifacts/x", "/minio/mlpipeline/v2/artifacts/x"),
        ("s3://bucket/key", "/s3/bucket/key"),
        ("gs://bucket/key/", "/gcs/bucket/key"),
        ("oci://registry/team/model:1", "/oci/registry_team_model:1/models"),
        ("/perennial/flights/x", "/perennial/flights/x"),
    ],
)
def test_a_uri_lies_where_the_launcher_puts_it(uri: str, path: str) -> None:
    assert str(local_path(uri)) == path
    assert is_remote(uri) == ("://" in uri)


def test_folders_of_a_local_run_lie_below_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(LOCAL_ROOT_VARIABLE, str(tmp_path))
    assert local_path("s3://bucket/key") == tmp_path / "s3/bucket/key"
    assert local_path("/elsewhere/key") == Path("/elsewhere/key")
    assert uri_of(tmp_path / "s3/bucket/key") == "s3://bucket/key"
    assert uri_of("/s3/bucket/key") == "/s3/bucket/key"


@pytest.mark.parametrize(
    "uri",
    [
        "minio://b/../../etc",
        "/perennial/../etc",
        "minio://",
        "minio:///etc/passwd",
        "s3://../b",
        "file:///etc",
        "http://b/k",
        "relative/path",
        "",
    ],
)
def test_what_leads_elsewhere_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected minio://, s3://, gs:// or oci:// .*received uri="):
        local_path(uri)


def test_the_path_of_a_model_image_has_no_uri() -> None:
    with pytest.raises(ConfigError, match=r"The URI of '/oci/registry_model/models' is lost"):
        uri_of("/oci/registry_model/models")


@given(st.sampled_from(["minio", "s3", "gs"]), st.lists(NAMES, min_size=1, max_size=4))
def test_there_and_back_is_where_it_was(scheme: str, names: list[str]) -> None:
    uri = f"{scheme}://{'/'.join(names)}"
    assert uri_of(local_path(uri)) == uri


def test_what_was_not_brought_is_named_and_a_file_is_enough(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match=rf"Input 'model' has no files\. .*'{tmp_path}/x'.*received nothing\."):
        check_brought("model", f"{tmp_path}/x")
    with pytest.raises(LineageError, match=r"received an empty folder\. .*`perennial model rollback`"):
        check_brought("model", str(tmp_path))
    (tmp_path / "x").write_text("")
    check_brought("model", f"{tmp_path}/x")
    check_brought("model", str(tmp_path))
