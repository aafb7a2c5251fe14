"""Starts a fork server (`training.fork_server`) and says what stands for Python then."""

import os
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from openrlhf_ktae import fork_client

PYTHON_VARIABLE = "OPENRLHF_KTAE_PYTHON"
"""Names the executable that stands for Python: to the processes of a run, or to the runs of a sweep."""

FIRST_VARIABLE = "OPENRLHF_KTAE_FORKS"
"""The first variable of every fork's environment, for the titles of processes.

Ray's and vLLM's code looks for the memory of a title in front of the first variable (setproctitle: find_argv_from_env),
which therefore has to stay where the kernel put it.
"""

SHARED = "shared"
"""An argument of the server."""

_SOCKET = "python.socket"


@dataclass(frozen=True)
class ForkServer:
    """A server that lives as long as this object, and not longer than this process."""

    process: subprocess.Popen
    python: Path
    """An executable that stands for Python."""


def start(folder: Path, python: str = sys.executable, shared: bool = False) -> ForkServer:
    """Starts a server, which imports while the caller goes on.

    Args:
        folder: for the executable and its socket; nobody else may write there, and its path has to be short.
        python: starts it; where that stands for a shared server, everything is imported already.
        shared: each of its forks leads a session, and it leads one itself, which no Ctrl-C at a terminal reaches.
    """
    address = folder / _SOCKET
    with socket.socket(socket.AF_UNIX) as listener:
        # Before anyone can ask: who asks while the server still imports waits in line.
        listener.bind(str(address))
        listener.listen()
        process = subprocess.Popen(
            [python, "-m", "openrlhf_ktae.training.fork_server", str(listener.fileno()), *([SHARED] if shared else [])],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env={FIRST_VARIABLE: "1", **os.environ},
            start_new_session=shared,
        )
    stand_in = folder / "python"
    client = [sys.executable, "-I", "-S", fork_client.__file__, str(address)]
    stand_in.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n', encoding="utf-8")
    stand_in.chmod(0o700)
    return ForkServer(process, stand_in)
