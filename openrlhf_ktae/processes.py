"""Processes of a run: found by the session that its launcher was started in, and ended by their ids."""

import os
import subprocess
from contextlib import suppress

import psutil

SOCKETS_VARIABLE = "VLLM_RPC_BASE_PATH"
"""Names a run's folder for sockets (vllm/utils/network_utils.py:157), removed after it. Its path has to be short."""

_SHUTDOWN_SECONDS = 20


def end_session(launcher: subprocess.Popen) -> None:
    """Ends a launcher and everything it started, gently first.

    Ray's daemons and workers, and vLLM's processes, outlive the launcher for a while and have other parents by then;
    all of them stay in the session that was made for the launcher.
    """
    if launcher.poll() is None:
        launcher.terminate()
        try:
            launcher.wait(_SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
    psutil.wait_procs(session_members(launcher.pid), timeout=5)
    kill_session(launcher.pid)


def kill_session(session: int) -> None:
    """Kills every process of a session but this one, until none is left."""
    while alive := [process for process in session_members(session) if process.pid != os.getpid()]:
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)


def session_members(session: int) -> list[psutil.Process]:
    """The living processes of a session."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members
