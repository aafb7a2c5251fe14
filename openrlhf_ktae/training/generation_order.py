"""Sampling that gives the same tokens whenever the same weights see the same prompts (``run.deterministic_sampling``).

Two things decide what vLLM samples besides the weights: the random numbers, here seeded by the step and the prompt, and
which requests are computed together, because rounding depends on the batch. So an engine waits until all requests of a
step are there, takes them in one order, and only then starts.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


def seed_of(*parts: Any) -> int:
    """A 31-bit seed from a run's seed, step and prompt; the same on every machine and in every process."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Round:
    """The requests of one step at one engine: each waits for its turn; the engine starts when all are in."""

    def __init__(self, llm: Any, seed: int, expected: int) -> None:
        self._llm, self._seed, self._expected = llm, seed, expected
        self._waiting: list[tuple[str, asyncio.Future[int]]] = []
        self._is_in = asyncio.Event()

    @asynccontextmanager
    async def turn(self, prompt: str) -> AsyncIterator[int]:
        """Waits until every request before this one is in the engine's queue; gives the seed to sample with.

        Inside, the request is made and answered.
        """
        mine: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((prompt, mine))
        if len(self._waiting) == self._expected:
            self._task = asyncio.ensure_future(self._let_in())
            self._task.add_done_callback(self._give_up)
        try:
            yield await mine
        finally:
            self.is_in()  # all are, if this one has been answered; else it may never have reached the engine

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """Tells who still waits that the engine has died; nobody else would."""
        if not task.cancelled() and (error := task.exception()) is not None:
            for _, waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(error)

    def is_in(self) -> None:
        """Called when the request whose turn it is has reached the engine's queue, or never will."""
        self._is_in.set()

    async def _let_in(self) -> None:
        await self._llm.pause_generation(mode="keep")
        seen: dict[str, int] = {}
        for prompt, waiting in sorted(self._waiting, key=lambda request: request[0]):
            seen[prompt] = seen.get(prompt, 0) + 1
            self._is_in.clear()
            waiting.set_result(seed_of(self._seed, prompt, seen[prompt]))
            await self._is_in.wait()
        await self._llm.resume_generation()


class OneByOne:
    """vLLM's engine, which tells the round when a request has reached its queue."""

    def __init__(self, llm: Any) -> None:
        self._add_request = llm.add_request
        llm.add_request = self._add
        self.round: Round | None = None

    async def _add(self, *args: Any, **kwargs: Any) -> Any:
        added = await self._add_request(*args, **kwargs)
        if self.round is not None:
            self.round.is_in()
        return added
