"""``python -m openrlhf_ktae.runs.with_parent ARGUMENTS``: the command line, which ends when its parent is gone.

A sweep that is killed leaves no run behind that a second start of it would find half done and still growing.
"""

import os
import runpy
import signal
import threading
import time

_POLL_SECONDS = 1.0


def end_with_parent(parent: int) -> None:
    """Asks this process to end in order once ``parent`` is not its parent any more."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    runpy.run_module("openrlhf_ktae.cli", run_name="__main__")
