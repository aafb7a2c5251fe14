"""What scripts/setup.sh refuses."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("there", "options", "wanted"), [("gpu", [], "cpu"), ("cpu", ["--gpu"], "gpu")])
def test_an_environment_of_the_other_kind_is_left_alone(tmp_path, there, options, wanted):
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup.sh", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*"))):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "made_from").write_text(f"{there} 123 456\n")
    command = ["bash", str(tmp_path / "scripts" / "setup.sh"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"holds the environment for {there}, this needs the one for {wanted}" in done.stderr
    assert [path.name for path in (tmp_path / ".venv").iterdir()] == ["made_from"]
