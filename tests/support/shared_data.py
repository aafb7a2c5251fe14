"""Where the benchmark suite is, for the tests that need it."""

import os
from pathlib import Path

import pytest

VARIABLE = "OPENRLHF_KTAE_SHARED_DATA"


def evaluation_suite() -> Path:
    """Folder of the benchmark suite; skips the calling test, with the reason, when it is not there."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get(VARIABLE, default)) / "evaluation_suite"
    if not folder.is_dir():
        pytest.skip(f"no benchmark suite at {folder}; set {VARIABLE} to the folder that holds evaluation_suite")
    return folder
