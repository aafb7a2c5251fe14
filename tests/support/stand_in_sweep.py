"""Sweeps in real processes whose runs are stand-ins of a moment (`stand_in_training`)."""

import subprocess
import sys
from pathlib import Path

import yaml

from openrlhf_ktae.sweep.folder import SweepFolder
from openrlhf_ktae.sweep.plan import planned_runs, read_sweep

ROOT = Path(__file__).resolve().parents[2]
TRAINER = (sys.executable, str(ROOT / "tests" / "support" / "stand_in_training.py"))
DRIVER = f"""
import sys
from pathlib import Path
from openrlhf_ktae.runs.sweep import sweep_command
file, output, parallel, only, failures = sys.argv[1:]
arguments = [Path(file), Path(output), False, int(parallel), only.split(), int(failures)]
sys.exit(sweep_command(*arguments, trainer={TRAINER!r}))
"""


def sweep_file(folder: Path) -> Path:
    """A sweep of two arms and two seeds, written into ``folder``."""
    path = folder / "sweep.yaml"
    arms = {"grpo": {"advantage.terms": []}, "ktae": {"advantage.terms": ["ktae"]}}
    content = {"recipe": str(ROOT / "recipes" / "quickstart"), "seeds": [1, 2], "arms": arms, "baseline": "grpo"}
    path.write_text(yaml.safe_dump(content))
    return path


def start(file: Path, output: Path, parallel: int = 1, only: str = "", failures: int = 3) -> subprocess.Popen:
    """`openrlhf-ktae sweep`; ``failures`` is its ``--max-failures``."""
    arguments = [sys.executable, "-c", DRIVER, str(file), str(output), str(parallel), only, str(failures)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def attempts(file: Path, output: Path) -> dict[str, list[str]]:
    """Status of every attempt, by run."""
    folder = SweepFolder(output)
    runs = planned_runs(read_sweep(file), file.parent)
    return {run.name: [attempt.read()["status"] for attempt in folder.attempts(run)] for run in runs}


def finished(file: Path, output: Path) -> list[str]:
    return [name for name, found in attempts(file, output).items() if "finished" in found]
