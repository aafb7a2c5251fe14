"""What the shell scripts say before they do anything."""

import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(script, *arguments):
    return subprocess.run(["bash", str(SCRIPTS / script), *arguments], capture_output=True, text=True, timeout=60)


def test_the_tests_say_how_long_they_take_and_what_they_install():
    done = run("test.sh", "--help")
    assert done.returncode == 0 and "minutes" in done.stdout and "Chromium" in done.stdout


def test_submitting_without_a_cluster_is_one_sentence():
    done = run("submit_ray.sh", "--address", "http://127.0.0.1:9", "recipes/quickstart")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith("submit_ray: no Ray dashboard answers at http://127.0.0.1:9")
