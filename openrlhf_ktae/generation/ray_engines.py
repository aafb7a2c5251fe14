"""Several vLLM engines as Ray actors: data parallelism over the GPUs (or the cores) of a cluster."""

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openrlhf_ktae.generation import BackendError, Completion, EngineOptions, Request, Sampling
from openrlhf_ktae.generation.engine import WINDOW, Engine
from openrlhf_ktae.ray_address import LOOPBACK, check_reachable

_START_SECONDS = 1800


class RayBackend:
    """``engines`` vLLM engines on the cluster at ``address``, else of RAY_ADDRESS, else on a Ray started here for them.

    Each engine reserves ``tensor_parallel`` GPUs where the cluster has any, otherwise as many cores.

    Raises:
        BackendError: no cluster there, too few resources, or an engine that does not start.
    """

    def __init__(self, options: EngineOptions, sampling: Sampling, engines: int, address: str | None) -> None:
        said_by = "--address" if address else "RAY_ADDRESS"
        address = address or os.environ.get("RAY_ADDRESS") or None
        try:
            check_reachable(address, said_by)
        except ConnectionError as error:
            raise BackendError(str(error)) from None
        if address is None:
            for name, value in LOOPBACK.items():
                os.environ.setdefault(name, value)
        import ray
        from ray.exceptions import RayError

        self._ray = ray
        self._started_by_us = not ray.is_initialized()
        if self._started_by_us:
            try:
                # The cluster's workers import this package from where it stands here.
                there: dict[str, Any] = {
                    "runtime_env": {"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}}
                }
                if address is None:
                    # Logical cores: a small machine may hold more engines than it has cores.
                    there["num_cpus"] = max(engines * options.tensor_parallel, os.cpu_count() or 1)
                # Not None: Ray would join whatever another `ray start` left on this machine.
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **there)
            except (ConnectionError, ValueError) as error:
                raise BackendError(f"Ray cluster {address!r}: not reached ({error}); check {said_by}") from error
        kind = "GPU" if ray.cluster_resources().get("GPU") else "CPU"
        found, needed = ray.cluster_resources().get(kind, 0), engines * options.tensor_parallel
        if found < needed:
            self.close()
            raise BackendError(
                f"Ray cluster: {engines} engines need {needed} {kind}s, it has {found:g}; lower --engines"
            )
        resources: dict[str, Any] = (
            {"num_gpus": options.tensor_parallel} if kind == "GPU" else {"num_cpus": options.tensor_parallel}
        )
        actor: Any = ray.remote(Engine).options(**resources)
        self._actors: list[Any] = [actor.remote(options, sampling) for _ in range(engines)]
        try:
            ray.get([one.advance.remote([]) for one in self._actors], timeout=_START_SECONDS)
        except RayError as error:
            self.close()
            raise BackendError(f"an engine did not start: {_reason(error)}") from error

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """See :class:`openrlhf_ktae.generation.Backend`."""
        from ray.exceptions import RayError

        waiting = deque(requests)
        running = [0] * len(self._actors)
        calls: dict[Any, int] = {}

        def call(engine: int) -> None:
            new = [waiting.popleft() for _ in range(min(self._share(waiting, running, engine), len(waiting)))]
            running[engine] += len(new)
            if running[engine]:
                calls[self._actors[engine].advance.remote(new)] = engine

        for engine in range(len(self._actors)):
            call(engine)
        while calls:
            ready, _ = self._ray.wait(list(calls), num_returns=1)
            engine = calls.pop(ready[0])
            try:
                finished = self._ray.get(ready[0])
            except RayError as error:
                raise BackendError(f"engine {engine} of {len(self._actors)} ended: {_reason(error)}") from error
            running[engine] -= len(finished)
            call(engine)
            if finished:
                yield finished

    def _share(self, waiting: deque[Request], running: list[int], engine: int) -> int:
        """How many more an engine takes: up to the window, and no more than its fair part of what is left."""
        fair = -(-(len(waiting) + sum(running)) // len(running))
        return max(0, min(WINDOW, fair) - running[engine])

    def close(self) -> None:
        """Ends the engines, and the connection where it was made here."""
        for actor in getattr(self, "_actors", []):
            self._ray.kill(actor)
        self._actors = []
        if self._started_by_us:
            self._ray.shutdown()


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
