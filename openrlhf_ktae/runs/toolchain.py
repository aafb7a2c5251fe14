"""What DeepSpeed compiles its optimizer with on a GPU node, and the driver: is it there, and of the right version?"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_DRIVER = {12: 525, 13: 580}
"""Oldest driver of a CUDA major version."""


def toolchain(cuda: str) -> list[tuple[str, str, bool]]:
    """What, what was found, whether that is right; ``cuda``: torch's version of it, such as 13.0."""
    major = int(cuda.partition(".")[0])
    return [_driver(major), _nvcc(major), _gcc(), _headers(), _ninja()]


def _printed(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _driver(major: int) -> tuple[str, str, bool]:
    text = _printed("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    version = text[0] if text else ""
    needed = _DRIVER.get(major, 0)
    is_right = bool(version) and int(version.partition(".")[0]) >= needed
    return "driver", version + ("" if is_right else f" (CUDA {major} needs {needed} or newer)"), is_right


def _nvcc(major: int) -> tuple[str, str, bool]:
    found = re.search(
        r"release (\d+)\.(\d+)", _printed(shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc", "--version")
    )
    version = f"{found[1]}.{found[2]}" if found else "not found"
    is_right = found is not None and int(found[1]) == major
    return "nvcc", version + ("" if is_right else f" (torch needs CUDA {major}: install its toolkit)"), is_right


def _gcc() -> tuple[str, str, bool]:
    version = _printed("gcc", "-dumpfullversion").strip()
    return "gcc", version or "not found (Debian and Ubuntu: apt-get install build-essential)", bool(version)


def _headers() -> tuple[str, str, bool]:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    is_there = header.is_file()
    return "Python headers", str(header) if is_there else f"{header} is missing (install python3-dev)", is_there


def _ninja() -> tuple[str, str, bool]:
    path = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    return "ninja", path or "not found (pip install ninja)", path is not None
