"""A stand-in for `openrlhf-ktae train` in the tests of sweeps: a run folder whose numbers are set by arm and seed.

It takes the same arguments, leaves the same files, and needs a moment where the real one needs minutes. A run with
``run.tracked_rollouts=0`` fails.
"""

import json
import os
import sys
import time
from pathlib import Path

from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import RunFolder, now


def main(arguments: list[str]) -> int:
    recipe, options = arguments[0], arguments[1:]
    if options[0] == "--resume":
        folder = RunFolder(options[1])
    else:
        overrides = options[1::2]
        settings = dict(override.partition("=")[::2] for override in overrides)
        parent = Path(settings["run.output_dir"])
        folder = RunFolder(parent / f"stand-in-{sum(1 for _ in parent.glob('stand-in-*'))}")
        folder.path.mkdir(parents=True)
        description = {"format": 1, "status": "running", "reason": None, "started_at": now(), "finished_at": None}
        write_json(
            folder.run_json, description | {"recipe": recipe, "overrides": overrides, "config": {"openrlhf": {}}}
        )
    settings = dict(override.partition("=")[::2] for override in folder.read()["overrides"])
    time.sleep(0.3)
    folder.update(cores=sorted(os.sched_getaffinity(0)))
    if settings.get("run.tracked_rollouts") == "0":
        folder.update(status="failed", reason="asked to fail", finished_at=now())
        return 1
    seed, helps = int(settings["train.seed"]), "ktae" in settings["advantage.terms"]
    lines = []
    for step in (0, 10, 20):
        accuracy = 0.3 + 0.01 * seed + 0.02 * step + (0.01 * (step > 0) if helps else 0.0)
        lines.append({"kind": "eval", "step": step, "set/pass@1": accuracy, "set/response_length_mean": 40.0 - step})
    lines += [{"kind": "train", "step": step, "timing/step_total": 1.5} for step in range(1, 21)]
    folder.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder.summary_file, {"seconds": {"start": 0.25}})
    folder.update(status="finished", finished_at=now())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
