"""Edges of trees on their way into steps: a step takes a fixed number, the others wait for the next ones."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Waiting:
    edge: Any
    prompt: int
    step: int


class EdgePool:
    """At most ``per_prompt`` edges of a prompt go into a step; an edge waits for fewer than ``max_age`` steps."""

    def __init__(self, per_prompt: int, max_age: int) -> None:
        self._per_prompt, self._max_age = per_prompt, max_age
        self._waiting: list[_Waiting] = []
        self._prompts = 0
        self._step = 0

    def begin_step(self) -> None:
        """Forgets what has waited for too long."""
        self._step += 1
        self._waiting = [waiting for waiting in self._waiting if self._step - waiting.step < self._max_age]

    def add(self, edges: list[Any]) -> None:
        """The edges of one prompt's tree, sampled in this step."""
        self._waiting += [_Waiting(edge, self._prompts, self._step) for edge in edges]
        self._prompts += 1

    def missing_prompts(self, count: int) -> int:
        """Further prompts to sample before a step can take ``count`` edges, if each gave as many as it may."""
        return max(0, -((len(self._chosen()) - count) // self._per_prompt))

    def take(self, count: int) -> list[tuple[Any, int]]:
        """``count`` edges with their ages in steps, the oldest first; fewer if there are no more."""
        places = self._chosen()[:count]
        taken = [self._waiting[place] for place in places]
        gone = set(places)
        self._waiting = [waiting for place, waiting in enumerate(self._waiting) if place not in gone]
        return [(waiting.edge, self._step - waiting.step) for waiting in taken]

    def _chosen(self) -> list[int]:
        counts: dict[int, int] = {}
        places = []
        for place, waiting in enumerate(self._waiting):  # the oldest stand first
            counts[waiting.prompt] = counts.get(waiting.prompt, 0) + 1
            if counts[waiting.prompt] <= self._per_prompt:
                places.append(place)
        return places
