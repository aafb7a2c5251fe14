"""A Python that has imported what the processes of a run import, and becomes any of them by a fork.

The policy, the reference, the trainer, vLLM's actor and vLLM's engine each import PyTorch, Transformers, DeepSpeed and
vLLM: five seconds of a processor for each. Here one process does, while Ray starts. Ray (``py_executable``) and
multiprocessing (``set_executable``) start `fork_client` where they would start Python; it hands over its command line,
environment, folder, group and open files, and a fork of this process goes on as that Python would.

``python -m openrlhf_ktae.training.fork_server SOCKET [shared]``, where SOCKET is the number of an inherited socket that
listens; it ends when its standard input does. A sweep has a shared one, the servers of its runs are forks of that.
"""

import fcntl
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_ktae import fork_client
from openrlhf_ktae.forks import FIRST_VARIABLE, SHARED
from openrlhf_ktae.training import cpu

MODULES = (
    "datasets",
    "deepspeed",
    "peft",
    "transformers.models.auto.modeling_auto",
    "vllm.engine.arg_utils",
    "vllm.model_executor.model_loader",
    "vllm.v1.worker.cpu_worker",
)
"""What is imported before a fork. Not Ray, nor what imports it: then it reads variables that are a worker's."""


@dataclass
class _Request:
    """What a process was started with."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    group: int
    """The process group that it is in."""
    cores: list[int]
    """The cores that it may compute on."""
    files: list[int]
    """Its open files' numbers."""
    received: list[int]
    """The same files' numbers here."""
    client: socket.socket
    """Ends when the client does."""


def serve(listener: socket.socket) -> _Request | None:
    """Forks for every client. Returns in each fork, what it is to become, and here when standard input ends, None."""
    children: dict[int, socket.socket] = {}
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    while True:
        ready, _, _ = select.select([sys.stdin, listener, woken], [], [])
        if sys.stdin in ready:
            return None
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(children)
        if listener in ready:
            request = _receive(listener.accept()[0])
            if request is None:
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for client in children.values():
                    client.close()
                for number in (listener.detach(), woken, wakes):
                    os.close(number)
                return request
            for number in request.received:
                os.close(number)
            children[pid] = request.client
            with suppress(OSError):  # its client is gone, and so will the fork be
                request.client.sendall(f"{pid}\n".encode())


def _report_ended(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with children.pop(pid) as client, suppress(OSError):
            client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _receive(client: socket.socket) -> _Request | None:
    """A client's request; None where the client was killed before it was whole."""
    head, received, _, _ = socket.recv_fds(client, fork_client.HEAD.size, fork_client.MAX_FILES)
    try:
        with client.makefile("rb") as stream:
            rest: dict[str, Any] = json.loads(stream.read(*fork_client.HEAD.unpack(head)))
    except (struct.error, ValueError):
        client.close()
        for number in received:
            os.close(number)
        return None
    return _Request(**rest, received=received, client=client)


def become(request: _Request, leads_session: bool = False) -> None:
    """Goes on as the Python that the client stands for; its end is that of the main program.

    ``leads_session``: it is a run's own server. Linux shares processors among sessions (autogroups): in one of a whole
    sweep its runs would get what is one run's, and in one of a single process it would not help that Ray makes it nice.
    """
    _take_files(request)
    _take_environment(request.environment)
    os.chdir(request.folder)
    os.sched_setaffinity(0, request.cores)
    if leads_session:
        os.setsid()
    else:
        try:
            os.setpgid(0, request.group)
        except PermissionError:  # the client is of another session than its run's server
            os.setpgid(0, 0)
    threading.Thread(target=_end_with, args=(request.client,), daemon=True).start()
    _run(request.arguments)


def _take_environment(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys() - {FIRST_VARIABLE}:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _take_files(request: _Request) -> None:
    """Gives the received files the numbers that they had where they came from."""
    free = max(request.files) + 1
    with request.client as client:
        request.client = socket.socket(fileno=fcntl.fcntl(client, fcntl.F_DUPFD_CLOEXEC, free))
    moved = [fcntl.fcntl(number, fcntl.F_DUPFD, free) for number in request.received]
    for number in request.received:
        os.close(number)
    for number, file in zip(request.files, moved, strict=True):
        os.dup2(file, number)
        os.close(file)


def _end_with(client: socket.socket) -> None:
    """Whoever kills the client means this process."""
    with suppress(OSError):
        client.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _run(arguments: Sequence[str]) -> None:
    """Runs ``-c CODE ...``, ``-m MODULE ...`` or ``SCRIPT ...`` as the main program.

    The interpreter's options before it are ours.
    """
    while arguments[0].startswith("-") and arguments[0] not in ("-c", "-m"):
        arguments = arguments[1:]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if arguments[0] == "-m":
        sys.argv = [*arguments[1:]]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    if arguments[0] == "-c":
        source, name, sys.argv = arguments[1], "<string>", ["-c", *arguments[2:]]
        sys.path.insert(0, "")
    else:
        source, name, sys.argv = Path(arguments[0]).read_text(encoding="utf-8"), arguments[0], [*arguments]
        main.__file__ = name
        sys.path.insert(0, str(Path(name).parent))
    exec(compile(source, name, "exec"), main.__dict__)


def main() -> None:
    """Entry point of the module."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    if cpu.ENVIRONMENT.items() - os.environ.items():
        listener.set_inheritable(True)
        program = [sys.executable, "-m", "openrlhf_ktae.training.fork_server", *sys.argv[1:]]
        os.execve(sys.executable, program, {**os.environ, **cpu.ENVIRONMENT})
    with cpu.no_garbage_while_importing():
        for module in MODULES:
            importlib.import_module(module)
    sys.stdout.flush()  # what an import printed is not printed by every fork again
    if request := serve(listener):
        become(request, leads_session=SHARED in sys.argv)


if __name__ == "__main__":
    main()
