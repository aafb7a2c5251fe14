"""Stands for a process that `training.fork_server` forks: starts it, passes signals on, ends as it ends.

``python -I -S fork_client.py SOCKET ARGUMENTS``; the arguments are those of the Python it stands for. It imports little
and becomes that Python itself where no server answers.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

HEAD = struct.Struct("Q")
"""What comes before a request: its length in bytes."""
MAX_FILES = 250
"""Open files that one message carries; the kernel's limit is 253."""


def _open_files() -> list[int]:
    """Numbers of the files that this process was started with."""
    return [number for number in map(int, os.listdir("/proc/self/fd")) if _is_inherited(number)]


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # that of the listing itself
        return False


def _started(server: socket.socket, address: str, arguments: list[str]) -> int | None:
    """Asks the server; the id of the fork, None if it does not answer."""
    files = _open_files()
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(), "files": files}
    request |= {"group": os.getpgrp(), "cores": sorted(os.sched_getaffinity(0))}
    content = json.dumps(request).encode()
    try:
        server.connect(address)
        socket.send_fds(server, [HEAD.pack(len(content))], files)
        server.sendall(content)
        return _number(server)
    except OSError:
        return None


def _number(server: socket.socket) -> int | None:
    """The next number that the server sends; None at the end."""
    line = b""
    while not line.endswith(b"\n"):
        part = server.recv(1)
        if not part:
            return None
        line += part
    return int(line)


def _pass_on(number: int, pid: int) -> None:
    with suppress(ProcessLookupError):  # it has ended; its exit code is on the way
        os.kill(pid, number)


def _end_with_parent() -> None:
    """Has the kernel end this process, and with it the fork, when the one that started it is gone.

    A run is ended by its session, and in a sweep its forks are in another one (`training.fork_server.become`).
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Entry point; returns the exit code of the fork."""
    address, arguments = sys.argv[1], sys.argv[2:]
    _end_with_parent()
    with socket.socket(socket.AF_UNIX) as server:
        pid = _started(server, address, arguments)
        if pid is None:
            os.execv(sys.executable, [sys.executable, *arguments])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: _pass_on(number, pid))
        code = _number(server)
    if code is None:
        return 1
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
