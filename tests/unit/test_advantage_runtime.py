"""What the estimator does to the process it runs in: imports, compile cache, threads, falling back."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "openrlhf_ktae"

COMPUTE = """
import torch
from openrlhf_ktae.advantage import key_token_values
torch.manual_seed(0)
ids = torch.randint(0, 50, (16, 40))
batch = (ids, torch.ones(16, 40), torch.arange(16) % 2, torch.arange(16) // 8)
values = key_token_values(*batch)
assert torch.equal(values, key_token_values(*batch, backend="torch"))
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package alone, as an installation has it: nothing compiled yet, the repository not on the path."""
    target = tmp_path / "site" / "openrlhf_ktae"
    (target / "advantage" / "estimator").mkdir(parents=True)
    for name in ("__init__.py", "config.py"):
        shutil.copy(PACKAGE / name, target)
    for path in [*(PACKAGE / "advantage").glob("*.py"), *(PACKAGE / "advantage" / "estimator").glob("*.py")]:
        shutil.copy(path, target / path.relative_to(PACKAGE))
    return target.parent


def run(site, code, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-P", "-W", "always", "-c", code],
        env={**inherited, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **environment},
        cwd=site, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def succeed(*args, **environment):
    done = run(*args, **environment)
    assert done.returncode == 0, done.stderr
    return done


def test_the_estimator_imports_no_trainer_and_starts_no_numba_threads(installed):
    succeed(
        installed,
        "import sys, openrlhf_ktae.advantage\n"
        "trainers = {'ray', 'vllm', 'openrlhf', 'deepspeed', 'transformers'}\n"
        "assert not {*trainers, 'numba'} & set(sys.modules)\n" + COMPUTE + "assert not trainers & set(sys.modules)\n"
        "import numba.np.ufunc.parallel as parallel\n"
        "assert not parallel._is_initialized\n"
        "from openrlhf_ktae.advantage.estimator import cpu_kernel\n"
        "assert cpu_kernel._usable_threads() == 1",
        NUMBA_NUM_THREADS="1",
    )


def test_a_second_process_loads_what_the_first_compiled(installed):
    report = COMPUTE + (
        "from openrlhf_ktae.advantage.estimator import cpu_kernel\n"
        "stats = cpu_kernel._fill_groups.stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    assert succeed(installed, report).stdout.split() == ["0", "1"]
    assert succeed(installed, report).stdout.split() == ["1", "0"]


def test_the_cache_goes_elsewhere_when_the_installation_is_read_only(installed, tmp_path):
    report = COMPUTE + (
        "from openrlhf_ktae.advantage.estimator import cpu_kernel\n"
        "print(cpu_kernel._fill_groups.stats.cache_path)\n"
        "print(sum(cpu_kernel._fill_groups.stats.cache_hits.values()))"
    )
    cache = tmp_path / "cache"
    # Permissions do not stop root; a file where the cache folder would be does.
    (installed / "openrlhf_ktae" / "advantage" / "estimator" / "__pycache__").write_text("in the way")
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache)}
    first, second = (succeed(installed, report, **environment).stdout.split() for _ in range(2))
    assert first[0].startswith(str(cache))
    assert [first[1], second[1]] == ["0", "1"]


def test_without_any_place_for_a_cache_it_compiles_in_memory(installed, tmp_path):
    (installed / "openrlhf_ktae" / "advantage" / "estimator" / "__pycache__").write_text("in the way")
    (tmp_path / "file").write_text("in the way")
    nowhere = str(tmp_path / "file" / "below")
    done = succeed(
        installed,
        COMPUTE + "import openrlhf_ktae.advantage.estimator.values as ktae\nassert ktae._numba_works",
        HOME=nowhere, XDG_CACHE_HOME=nowhere,
    )  # fmt: skip
    assert "RuntimeWarning" not in done.stderr


def test_without_numba_it_warns_once_and_uses_torch_unless_numba_was_asked_for(installed):
    (installed / "numba.py").write_text("raise ImportError('no numba on this machine')")
    done = succeed(
        installed,
        COMPUTE + "key_token_values(*batch)\n"
        "try:\n    key_token_values(*batch, backend='numba')\n"
        "except ImportError as error:\n    assert 'no numba on this machine' in str(error)\n"
        "else:\n    raise SystemExit('numba was asked for by name and is missing, but nothing was raised')",
    )
    assert done.stderr.count("numba cannot compile here, using the slower torch backend") == 1
    assert "no numba on this machine" in done.stderr


def test_a_forked_child_and_several_threads_at_once_compute_too(installed):
    succeed(
        installed,
        COMPUTE + "import os\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    for other in pool.map(lambda _: key_token_values(*batch, threads=2), range(16)):\n"
        "        assert torch.equal(other, values)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if torch.equal(key_token_values(*batch), values) else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0",
    )
