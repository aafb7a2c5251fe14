"""The process below `openrlhf-ktae train`: everything that a run starts is in its session and ends with it.

``python -m openrlhf_ktae.training.launch RUN_FOLDER PARENT`` reads what to run from ``RUN_FOLDER/run.json``, and ends
with the process PARENT, which started it. The same launcher serves GPU and CPU, a Ray of its own and a cluster, and the
entry point of a ``ray job submit``.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from openrlhf_ktae import forks
from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.forks import PYTHON_VARIABLE
from openrlhf_ktae.processes import SOCKETS_VARIABLE, kill_session
from openrlhf_ktae.run_folder import RunFolder, now
from openrlhf_ktae.training.cluster import hold_ray
from openrlhf_ktae.training.drive import drive, worker_environment

_PARENT_SECONDS = 1.0
"""How often the launcher looks whether the process that supervises it is still there."""


def launch(folder: RunFolder) -> int:
    """Trains the run of ``folder``; returns the exit code. A failure is noted in the folder.

    On a CPU with a Ray of our own this process only holds Ray: a fork of the fork server trains, which has imported
    everything while Ray started.
    """
    description = folder.read()
    run = RunOptions(**description["config"]["run"])
    if run.device == "cpu" and not os.environ.get("RAY_ADDRESS") and (sockets := os.environ.get(SOCKETS_VARIABLE)):
        os.environ.update(worker_environment(run.device, description["config"]))
        # In a sweep it is a fork itself.
        server = forks.start(Path(sockets), os.environ.get(PYTHON_VARIABLE, sys.executable))
        address = hold_ray(run)
        os.environ[PYTHON_VARIABLE] = str(server.python)
        trainer = [server.python, "-m", drive.__module__, str(folder.path), address]
        code = subprocess.run(trainer, check=False).returncode
        if code < 0:
            os.kill(os.getpid(), -code)
        return code
    return drive(folder)


def end_with_parent(folder: RunFolder, parent: int) -> None:
    """Ends the whole run when the process that supervises it is gone: nobody else would end it or note its state.

    ``parent``: its id. If asked for here, it would be another's where that process is gone already.

    Started as a thread of the launcher. Every process of the run is in the launcher's session (`supervise`); actors on
    other nodes end with their driver, which is this process.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    reason = f"the process that supervises the run (openrlhf-ktae train, pid {parent}) was killed"
    folder.update(status="failed", reason=reason, finished_at=now())
    print(f"RuntimeError: {reason}", flush=True)
    kill_session(os.getsid(0))
    os._exit(1)


def main() -> int:
    """Entry point of the module."""
    # The default action would leave Ray's processes to find out by themselves; SystemExit shuts Ray down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = RunFolder(Path(sys.argv[1]))
    threading.Thread(target=end_with_parent, args=(folder, int(sys.argv[2])), daemon=True).start()
    return launch(folder)


if __name__ == "__main__":
    sys.exit(main())
