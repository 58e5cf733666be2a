import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from core.digests import digest_of_bytes, digest_of_file, digest_of_folder, digest_of_json


@given(content=st.binary(max_size=3 << 10))
def test_file_digest_is_that_of_its_bytes(tmp_path_factory, content: bytes):
    path = tmp_path_factory.mktemp("digests") / "file"
    path.write_bytes(content)
    assert digest_of_file(path) == digest_of_bytes(content) == hashlib.sha256(content).hexdigest()


def test_folder_digest_follows_names_and_contents(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    digest = digest_of_folder(tmp_path)
    (tmp_path / "b").write_text("3")
    changed = digest_of_folder(tmp_path)
    (tmp_path / "b").write_text("2")
    assert digest_of_folder(tmp_path) == digest != changed
    (tmp_path / "b").rename(tmp_path / "c")
    assert digest_of_folder(tmp_path) not in (digest, changed)


@given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=2))
def test_json_digest_ignores_the_order_of_keys(value: dict[str, int]):
    assert digest_of_json(value) == digest_of_json(dict(reversed(value.items())))
