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
"""Names the executable that stands for Python, for the processes of a run, or of the runs of a sweep."""

FIRST_VARIABLE = "OPENRLHF_KTAE_FORKS"
"""The first variable of every fork's environment, for the titles of processes.

Ray's and vLLM's code looks for the memory of a title in front of the first variable (setproctitle: find_argv_from_env),
which therefore has to stay where the kernel put it.
"""

_SOCKET = "python.socket"


@dataclass(frozen=True)
class ForkServer:
    """A server that lives as long as this object, and not longer than this process."""

    process: subprocess.Popen
    python: Path
    """An executable that stands for Python."""


def start(folder: Path, own_session: bool = False) -> ForkServer:
    """Starts a server, which imports while the caller goes on.

    Args:
        folder: for the executable and its socket; nobody else may write there, and its path has to be short.
        own_session: for clients in sessions of their own; what is typed at this process's terminal does not reach it.
    """
    address = folder / _SOCKET
    with socket.socket(socket.AF_UNIX) as listener:
        # Before anyone can ask: who asks while the server still imports waits in line.
        listener.bind(str(address))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "openrlhf_ktae.training.fork_server", str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env={FIRST_VARIABLE: "1", **os.environ},
            start_new_session=own_session,
        )
    python = folder / "python"
    client = [sys.executable, "-I", "-S", fork_client.__file__, str(address)]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n', encoding="utf-8")
    python.chmod(0o700)
    return ForkServer(process, python)
