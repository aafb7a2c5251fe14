"""Our actor classes in the seats where OpenRLHF's code expects its own ``ray.remote`` classes."""

from typing import Any

import ray


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
        return self._actor.remote(*args, **kwargs, **self._extra)
