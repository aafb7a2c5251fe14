"""What answers the policy between its turns: a tool, a game, another agent with fixed lines."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Reply:
    """What an environment says to a turn."""

    text: str
    """Put behind the turn; the policy goes on from there and is not trained on it."""
    reward: float = 0.0
    """What the turn earned by itself; the outcome is the verifier's."""
    done: bool = False
    """Whether that was the last turn. A turn that does not end with one of `Environment.stop` always is."""


class Environment(ABC):
    """One episode. Made for every rollout; never raises for what a policy writes."""

    stop: ClassVar[tuple[str, ...]]
    """Texts that end a turn; they belong to it."""

    @abstractmethod
    def __init__(self, prompt: str, label: Any) -> None:
        """Begins an episode on a prompt."""

    @abstractmethod
    def reply(self, turn: str) -> Reply:
        """Answers a turn of the policy."""
