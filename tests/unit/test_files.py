"""Files are there whole or not at all."""

import json

import pytest

from openrlhf_ktae.files import fingerprint, replacing, write_json


def test_a_file_is_replaced_in_one_step_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content_and_no_scratch_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as part:
        part.write_text("half of")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan_and_keeps_letters(tmp_path):
    path = write_json(tmp_path / "a.json", {"name": "é"})
    assert "é" in path.read_text(encoding="utf-8") and json.loads(path.read_text(encoding="utf-8")) == {"name": "é"}
    with pytest.raises(ValueError):
        write_json(path, {"value": float("nan")})


def test_a_fingerprint_differs_where_names_sizes_or_either_end_of_a_file_do(tmp_path):
    def of(name: str, content: bytes) -> str | None:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        (folder / "config.json").write_text(folder.name)  # not of the pattern
        return fingerprint(folder, "*.safetensors")

    large = bytes(range(256)) * 2**14
    found = [of("a.safetensors", large), of("b.safetensors", large), of("a.safetensors", large + b"x")]
    found += [of("a.safetensors", b"y" + large[1:]), of("a.safetensors", large[:-1] + b"y"), of("a.safetensors", b"y")]
    assert len(set(found)) == 6 and of("a.safetensors", large) == found[0]
    assert of("weights.bin", large) is None and fingerprint(tmp_path / "nowhere", "*.safetensors") is None
