"""Is there a Ray at an address? Imports nothing of Ray, which waits for minutes before it says that nobody is there."""

import socket

_SECONDS = 10.0


def check_reachable(address: str | None, option: str) -> None:
    """Nothing where ``address`` names no host and port (None, ``auto``, ``local``).

    Raises:
        ConnectionError: nobody listens there; the message names ``option``, the place where the address was said.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"{option}: no Ray answers at {address} ({error}); is its head node up?") from None
