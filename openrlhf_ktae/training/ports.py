"""Free ports that stay free: two runs that start at once on one machine never get the same one.

OpenRLHF binds port 0, closes the socket and uses the number seconds later (trainer/ray/launcher.py:45,
trainer/ray/ppo_actor.py:119); by then the kernel may have given it to another process. Ours come from outside the
range that the kernel gives away (unless that is everything), and a name in Linux's abstract socket namespace says that
one is taken: it needs no file, holds between users and containers as far as the port does, and ends with the process.
"""

import random
import socket
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_PORTS = range(20000, 60000)
_held: list[socket.socket] = []


def hold_port() -> int:
    """A free TCP port that no other caller of this function on this machine gets until this process ends.

    Raises:
        OSError: all are taken.
    """
    given_away = _given_away_by_the_kernel()
    # Where the kernel gives away all of them, the claim still keeps our own runs apart.
    candidates = [port for port in _PORTS if port not in given_away] or list(_PORTS)
    # Not from the global generator: holding a port must not change what training draws.
    random.Random().shuffle(candidates)
    for port in candidates:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0openrlhf_ktae.port.{port}")
            with closing(socket.socket()) as probe:
                probe.bind(("", port))
        except OSError:
            claim.close()
            continue
        _held.append(claim)
        return port
    raise OSError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def _given_away_by_the_kernel() -> range:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    return range(int(first), int(last) + 1)


class _HeldSocket:
    """A socket whose address has a port that is held."""

    def __enter__(self) -> "_HeldSocket":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def bind(self, address: tuple[str, int]) -> None:
        self._address = (address[0], hold_port())

    def getsockname(self) -> tuple[str, int]:
        return self._address


HELD_PORTS = SimpleNamespace(socket=_HeldSocket)
"""Stands for the ``socket`` module where upstream only looks for a free port: bind, then ask for the number."""


def store_on_its_address(host_name: str, port: int, *, options: Any = None, is_master: bool = False, **kwargs: Any):
    """In place of torch's TCPStore, whose server listens on every interface: here on ``host_name`` alone."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    if is_master:
        family = socket.AF_INET6 if ":" in host_name else socket.AF_INET
        kwargs["master_listen_fd"] = socket.create_server((host_name, port), family=family).detach()
    return TCPStore(host_name=host_name, port=port, is_master=is_master, **kwargs)
