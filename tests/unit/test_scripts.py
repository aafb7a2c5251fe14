"""What the shell scripts say before they do anything."""

import json
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 packages looked up, 0 findings"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}],
            1,
            "a 1: CVE-1; fixed in 1.1",
        ),
        (
            [{"name": "a", "skip_reason": "not found"}],
            2,
            "1 of 1 packages could not be looked up; the first: not found",
        ),
        (None, 2, "pip-audit failed on locked.txt: no network"),
    ],
)
def test_an_audit_tells_findings_from_packages_that_nobody_looked_up(tmp_path, monkeypatch, packages, code, said):
    """pip-audit itself says "No known vulnerabilities found" where it could look nothing up."""
    found = json.dumps({"dependencies": packages})
    answer = "echo no network >&2; exit 1" if packages is None else f"echo '{found}'"
    monkeypatch.setenv("PIP_AUDIT", pip_audit(tmp_path, answer))
    done = run("audit.sh", "locked.txt")
    assert done.returncode == code and said in done.stdout + done.stderr


@pytest.mark.parametrize("answer", [{"vulns": []}, {"skip_reason": "not found"}])
def test_an_audit_asks_an_index_without_advisories_once(tmp_path, monkeypatch, answer):
    nothing = json.dumps({"dependencies": [{"name": "known", "version": "1"} | answer]})
    monkeypatch.setenv("PIP_AUDIT", pip_audit(tmp_path, f"touch {tmp_path}/asked", known=nothing))
    done = run("audit.sh", "locked.txt")
    assert done.returncode == 2 and "the package index gives no advisories" in done.stderr
    assert not (tmp_path / "asked").exists()


KNOWN = json.dumps({"dependencies": [{"vulns": [{"id": "CVE-0", "fix_versions": ["2"]}]}]})


def pip_audit(folder, answer, known=KNOWN):
    """A stand-in that knows the old package by which the script tries the index, and says ``answer`` for the lists."""
    command = folder / "pip-audit"
    command.write_text(f"#!/bin/sh\ncase ${{10}} in */known.txt) echo '{known}';; *) {answer};; esac >\"$8\"\n")
    command.chmod(0o755)
    return str(command)
