"""A Ray cluster of two nodes on this host, with token authentication, for tests; ended by the ids of its processes."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Nodes:
    """A running cluster."""

    address: str
    dashboard: str
    dashboard_port: int
    session: Path
    environment: dict[str, str]
    """Of clients."""
    server: dict[str, str]
    """Of the nodes."""
    processes: list[subprocess.Popen]
    worker: tuple[str, ...]
    """The command line of every node but the head."""

    def join(self, gpus: int) -> None:
        """Starts another node and waits until it is in."""
        self._start([*self.worker, f"--num-gpus={gpus}"], len(self.listed("nodes")) + 1)

    def kill_last(self) -> None:
        """Kills all processes of the node that joined last, as if its machine had lost power."""
        node = psutil.Process(self.processes.pop().pid)
        for process in (node, *node.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _start(self, command: list[str], number: int) -> None:
        with (self.session / f"start_{len(list(self.session.glob('start_*.log')))}.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, env=self.server, stdout=log, stderr=log))
        _wait_for(self, number)

    def listed(self, what: str) -> list[dict]:
        """What Ray's state API knows (``nodes``, ``actors``), the ended ones too; empty while it does not answer."""
        try:
            return self.get(f"/api/v0/{what}?limit=1000&detail=1&timeout=20")["data"]["result"]["result"]
        except (OSError, KeyError, TypeError):  # not up yet
            return []

    def get(self, path: str) -> dict:
        """What the dashboard answers to a client with the token."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        with urllib.request.urlopen(
            urllib.request.Request(self.dashboard + path, headers=headers), timeout=30
        ) as answer:
            return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own_address() -> str:
    """This host's address on its network; the loopback address if it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


@contextmanager
def two_nodes(gpus=(1, 1), **environment: str):
    """Starts a head and a worker with so many logical GPUs; ``environment`` is added to theirs."""
    port, dashboard_port = free_port(), free_port()
    # Ray's sockets need a short path.
    session = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    client = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    client |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    address = f"{own_address()}:{port}"
    client |= {"RAY_ADDRESS": address}
    common = ["--num-cpus=8", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    head = [RAY, "start", "--head", f"--node-ip-address={own_address()}", f"--port={port}", f"--temp-dir={session}"]
    head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}", f"--num-gpus={gpus[0]}", *common]
    worker = (RAY, "start", f"--address={address}", *common)
    # Busy machines start Ray slowly.
    client |= {"RAY_NUM_REDIS_GET_RETRIES": "60"}
    server = {key: value for key, value in client.items() if key != "RAY_ADDRESS"} | environment
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    nodes = Nodes(address, dashboard, dashboard_port, session, client, server, [], worker)
    try:
        nodes._start(head, 1)
        nodes.join(gpus[1])
        yield nodes
    finally:
        _end(nodes.processes)
        shutil.rmtree(session, ignore_errors=True)


def _wait_for(nodes: Nodes, count: int, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while len(nodes.listed("nodes")) < count:  # dead ones stay in the list
        ended = [process for process in nodes.processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = "\n".join(path.read_text() for path in nodes.session.glob("start_*.log"))
            raise RuntimeError(f"{count} Ray nodes were not there after {seconds} s:\n{logs}")
        time.sleep(0.5)


def _end(processes: list[subprocess.Popen]) -> None:
    tree: set[psutil.Process] = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            tree |= set(psutil.Process(process.pid).children(recursive=True))
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
    _, alive = psutil.wait_procs(
        [psutil.Process(p.pid) for p in processes if p.poll() is None] + list(tree), timeout=10
    )
    for straggler in alive:
        with suppress(psutil.NoSuchProcess):
            straggler.kill()
