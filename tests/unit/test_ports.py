"""Ports for runs that start at once."""

import socket
import subprocess
import sys

import psutil
import pytest

from openrlhf_ktae.training.ports import HELD_PORTS, hold_port, store_on_its_address

PROCESSES, PORTS = 10, 20


def test_processes_that_start_at_once_get_different_ports_and_can_use_them():
    code = (
        "from openrlhf_ktae.training.ports import hold_port\n"
        f"print(*(hold_port() for _ in range({PORTS})), flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    ports = [int(port) for process in started for port in process.stdout.readline().split()]
    for process in started:
        process.communicate("\n")
    assert len(set(ports)) == PROCESSES * PORTS


def test_a_port_that_listens_is_not_given(monkeypatch):
    port = hold_port()
    with socket.socket() as listening:
        listening.bind(("", port))
        listening.listen()
        monkeypatch.setattr("openrlhf_ktae.training.ports._PORTS", range(port, port + 1))
        monkeypatch.setattr("openrlhf_ktae.training.ports._held", [])
        try:
            found = hold_port()
        except OSError as error:
            found = str(error)
    assert found == f"no free port between {port} and {port + 1}"


def test_where_the_kernel_gives_away_every_port_one_is_found_all_the_same(monkeypatch):
    monkeypatch.setattr("openrlhf_ktae.training.ports._given_away_by_the_kernel", lambda: range(1024, 65536))
    port = hold_port()
    with socket.socket() as listening:
        listening.bind(("", port))
    monkeypatch.setattr("openrlhf_ktae.training.ports._PORTS", range(port, port + 1))
    with pytest.raises(OSError, match="no free port"):  # it is held
        hold_port()


def test_what_upstream_asks_for_is_a_held_port():
    with HELD_PORTS.socket() as sock:
        sock.bind(("", 0))
        assert sock.getsockname()[1] not in range(32768, 61000)


def test_the_store_of_a_process_group_listens_on_its_own_address_alone():
    port = hold_port()
    store = store_on_its_address("127.0.0.1", port, is_master=True, world_size=1, multi_tenant=True)
    store.set("a", "1")
    client = store_on_its_address("127.0.0.1", port, is_master=False)
    assert client.get("a") == b"1"
    listening = [where.laddr for where in psutil.Process().net_connections("inet") if where.status == "LISTEN"]
    assert [where.ip for where in listening if where.port == port] == ["127.0.0.1"]
