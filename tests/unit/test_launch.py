"""What the launcher hands to Ray."""

import json
import subprocess
import sys

from openrlhf_ktae.files import write_json
from openrlhf_ktae.ray_address import LOOPBACK
from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.training.drive import worker_environment


def test_variables_of_the_submitted_job_are_left_to_it(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    alone = worker_environment("gpu", {})
    assert (alone["HF_HOME"], alone["NCCL_DEBUG"]) == ("/models", "INFO")
    job = {"runtime_env": {"env_vars": {"HF_HOME": "/models"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert worker_environment("gpu", {}) == {name: value for name, value in alone.items() if name != "HF_HOME"}


def test_a_run_with_a_ray_of_its_own_stays_on_the_loopback_interface(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")  # what the user says stays
    alone = worker_environment("gpu", {})
    assert {name: alone[name] for name in LOOPBACK} == LOOPBACK | {"GLOO_SOCKET_IFNAME": "eth7"}
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert not LOOPBACK.keys() & worker_environment("gpu", {}).keys()


def test_ray_takes_the_loopback_address_for_this_machine():
    code = (
        "import os\n"
        "import openrlhf_ktae.training.launch\n"
        "from openrlhf_ktae.ray_address import LOOPBACK\n"
        "os.environ.update(LOOPBACK)\n"
        "from ray._private import services\n"
        "print(services.get_node_ip_address())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "127.0.0.1\n", done.stderr


def test_a_launcher_whose_parent_was_killed_before_it_could_look_ends_too(tmp_path):
    folder = RunFolder(tmp_path)
    write_json(folder.run_json, {"status": "running"})
    code = (
        "import sys\n"
        "from openrlhf_ktae.run_folder import RunFolder\n"
        "from openrlhf_ktae.training.launch import end_with_parent\n"
        f"end_with_parent(RunFolder({str(tmp_path)!r}), int(sys.argv[1]))\n"
    )
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run([sys.executable, "-c", code, str(gone.pid)], start_new_session=True, timeout=60)
    assert done.returncode == 1
    assert (folder.read()["status"], f"pid {gone.pid}) was killed" in folder.read()["reason"]) == ("failed", True)
