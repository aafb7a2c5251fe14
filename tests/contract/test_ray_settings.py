"""Ray still knows the settings that `training/cluster.py` gives it by environment variables."""

import re
from pathlib import Path

import pytest
import ray

CLUSTER = Path(__file__).resolve().parents[2] / "openrlhf_ktae" / "training" / "cluster.py"


@pytest.mark.parametrize("name", re.findall(r'setdefault\("RAY_(\w+)"', CLUSTER.read_text()))
def test_a_setting_is_known(name):
    programs = (Path(ray.__file__).parent / "core" / "src" / "ray").glob("*/*")
    assert any(name.encode() in program.read_bytes() for program in programs if program.suffix == "")
