"""Where Ray is: at an address, or on this machine for us alone. Imports nothing of Ray."""

import socket

_SECONDS = 10.0

LOOPBACK = {
    # Read as ray is imported: with 0, the default on Windows and macOS, Ray takes 127.0.0.1 for this machine's address
    # and not the one by which others reach it (_private/ray_constants.py:480, _private/services.py:791).
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "VLLM_HOST_IP": "127.0.0.1",  # vLLM's process groups (utils/network_utils.py:34)
    "GLOO_SOCKET_IFNAME": "lo",  # gloo's; else the interface that the host's name resolves to
}
"""Environment of a Ray of our own and what runs in it: all listens where nobody outside of this machine can connect."""


def check_reachable(address: str | None, option: str) -> None:
    """Looks before Ray does, which waits for minutes.

    Nothing where ``address`` names no host and port (None, ``auto``, ``local``).

    Raises:
        ConnectionError: nobody listens there; the message names ``option``, the place where the address was said.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"{option}: no Ray answers at {address} ({error}); is its head node up?") from None
