"""Agents that work on a problem one after the other: one policy, a prompt for each of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Said:
    """What an agent wrote, and whether the verifier calls it right."""

    text: str
    is_correct: bool


class Team(ABC):
    """Who works on a problem; agents of one role are a functional group."""

    roles: ClassVar[tuple[str, ...]]
    """In the order in which they speak."""

    @abstractmethod
    def assignment(self, role: int, prompt: str, label: Any, before: Sequence[Said]) -> tuple[str, Any]:
        """Prompt and label of an agent, from those of the problem and what the agents before it said."""
