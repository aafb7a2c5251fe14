"""Knights and knaves: statements, a solver that proves one solution, and a generator of puzzles that have just one.

Each of n people is a knight, whose statement is true, or a knave, whose statement is false. A statement is a nested
tuple in the notation of the published data (K-and-K/knights-and-knaves): ``("telling-truth", i)``, ``("lying", i)``,
``("not", s)``, ``("and", s, t)``, ``("or", s, t)``, ``("->", s, t)``, ``("<=>", s, t)``.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae.tasks.splits import Split, split_of

Statement = tuple[Any, ...]
Roles = tuple[bool, ...]
"""One bool a person, true for a knight."""

ATOMS = ("telling-truth", "lying")
CONNECTIVES = ("and", "or", "->", "<=>")
_UNORDERED = ("and", "or", "<=>")


@dataclass(frozen=True)
class Puzzle:
    """What each person says, and the only roles that go with it."""

    statements: tuple[Statement, ...]
    solution: Roles

    @property
    def key(self) -> str:
        """The same text for puzzles that differ in who is who, or in the order of what "and" or "or" joins.

        Each person stands in it as: the speaker or another one, knight or knave.
        """
        return repr(sorted(_shape(said, speaker, self.solution) for speaker, said in enumerate(self.statements)))


def _shape(said: Statement, speaker: int, solution: Roles) -> str:
    if said[0] in ATOMS:
        return repr((said[0], said[1] == speaker, solution[said[1]], solution[speaker]))
    parts = [_shape(part, speaker, solution) for part in said[1:]]
    return f"{said[0]}({', '.join(sorted(parts) if said[0] in _UNORDERED else parts)})"


def truth(said: Statement, roles: Sequence[bool | None]) -> bool | None:
    """Whether a statement is true, given some of the roles; None where they do not settle it.

    Raises:
        ValueError: the statement is none.
    """
    kind = said[0]
    if kind in ATOMS:
        role = roles[said[1]]
        return None if role is None else role == (kind == "telling-truth")
    if kind == "not":
        inner = truth(said[1], roles)
        return None if inner is None else not inner
    if kind not in CONNECTIVES:
        raise ValueError(f"statement: got {kind!r}, expected one of {', '.join((*ATOMS, 'not', *CONNECTIVES))}")
    left, right = truth(said[1], roles), truth(said[2], roles)
    if kind == "<=>":
        return None if left is None or right is None else left == right
    if kind == "->":
        left, kind = (None if left is None else not left), "or"
    # An "and" is settled by one false part, an "or" by one true part.
    settling = kind == "or"
    if left is settling or right is settling:
        return settling
    return None if left is None or right is None else not settling


def solutions(statements: Sequence[Statement], most: int = 2) -> list[Roles]:
    """The roles that go with all statements, at most ``most`` of them: a single one proves that there is no other.

    Roles are assigned one person after the other; a branch ends where a statement's truth is settled and differs from
    its speaker's role.
    """
    found: list[Roles] = []
    roles: list[bool | None] = [None] * len(statements)

    def is_possible() -> bool:
        for speaker, said in enumerate(statements):
            if roles[speaker] is not None and truth(said, roles) is (not roles[speaker]):
                return False
        return True

    def assign(person: int) -> None:
        if len(found) == most:
            return
        if person == len(statements):
            found.append(tuple(bool(role) for role in roles))
            return
        for role in (True, False):
            roles[person] = role
            if is_possible():
                assign(person + 1)
        roles[person] = None

    assign(0)
    return found


def random_statement(rng: random.Random, people: int, speaker: int, depth: int) -> Statement:
    """A statement of at most ``depth`` nested connectives. An atom alone speaks about somebody else (``speaker`` is
    left out; -1 leaves out nobody)."""
    kind = rng.choice((*ATOMS, "not", *CONNECTIVES)) if depth else rng.choice(ATOMS)
    if kind in ATOMS:
        return kind, rng.choice([person for person in range(people) if person != speaker])
    parts = 1 if kind == "not" else 2
    made = tuple(random_statement(rng, people, -1, depth - 1) for _ in range(parts))
    # "Zoe is a knight and Zoe is a knight" is nothing that anybody says.
    return random_statement(rng, people, speaker, depth) if parts == 2 and made[0] == made[1] else (kind, *made)


def puzzles(split: Split, people: int, depth: int, seed: int) -> Iterator[Puzzle]:
    """Endless stream of puzzles of a split that have exactly one solution, in an order set by ``seed``.

    No other split holds a puzzle that differs in who is who alone. Small ones come again (there are a few hundred of
    two people at depth 1).
    """
    rng = random.Random(f"{split}-{people}-{depth}-{seed}")
    while True:
        statements = tuple(random_statement(rng, people, speaker, depth) for speaker in range(people))
        found = solutions(statements)
        if len(found) == 1 and split_of(Puzzle(statements, found[0]).key) == split:
            yield Puzzle(statements, found[0])
