"""Ray still knows the settings that it is given by environment variables."""

from pathlib import Path

import pytest
import ray

from openrlhf_ktae.training.cluster import RAY_SETTINGS


@pytest.mark.parametrize("name", RAY_SETTINGS)
def test_a_setting_is_known(name):
    programs = (Path(ray.__file__).parent / "core" / "src" / "ray").glob("*/*")
    assert any(name.encode() in program.read_bytes() for program in programs if program.suffix == "")
