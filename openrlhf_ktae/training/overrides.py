"""Our actor classes in the seats where OpenRLHF's code expects its own ``ray.remote`` classes."""

import os
import signal
import threading
from typing import Any

import ray
from ray.exceptions import RayActorError


def plain_class(actor_class: Any) -> Any:
    """The class under ``@ray.remote``: the decorated one cannot be subclassed."""
    return actor_class.__ray_metadata__.modified_class


class Seat:
    """Stands where OpenRLHF expects a ``ray.remote`` class, and adds our arguments to its constructor."""

    def __init__(self, plain_class: type, **extra: Any) -> None:
        self._actor = ray.remote(plain_class)
        self._extra = extra

    def options(self, **options: Any) -> "Seat":
        """As ray's ``ActorClass.options``."""
        seat = object.__new__(Seat)
        seat._actor, seat._extra = self._actor.options(**options), self._extra
        return seat

    def remote(self, *args: Any, **kwargs: Any):
        """As ray's ``ActorClass.remote``."""
        handle = self._actor.remote(*args, **kwargs, **self._extra)
        threading.Thread(target=_end_if_it_fails_to_start, args=(handle,), daemon=True).start()
        return handle


def _end_if_it_fails_to_start(handle: Any) -> None:
    """Ends this process if an actor cannot be constructed.

    OpenRLHF does not look at its vLLM engines before it uses them: the policy would wait for a dead one for ever.
    """
    try:
        ray.get(handle.__ray_ready__.remote())
    except RayActorError as error:
        print(f"RuntimeError: an actor failed to start: {error}", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
