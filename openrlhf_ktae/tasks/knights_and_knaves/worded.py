"""Knights and knaves for a tiny model: short word-level puzzles, and worked solutions that vary in wording and length.

A token is a word with the space before it::

    prompt    Puzzle: Ann: Bob-lies ; Bob: Ann-honest and Bob-lies ; <think>
    response   try Ann=knight Bob=knight : Ann: Bob-lies false fails next Ann=knight Bob=knave : Ann: Bob-lies true fits
               Bob: Ann-honest true and Bob-lies true so true fails ... done </think> <answer>
               Ann=knave Bob=knight </answer>

A solution supposes one assignment of roles after the other and checks who says what, up to a contradiction. Its author
chooses a method once (`Habits`): in words, where each part is said again with its truth; briefly, where only the
outcome is written; or a guess without any check. The shorter the method, the more often it slips. Words that mean
nothing come in between.

A tiny model learns this in a minute because every token in words follows from a few that it finds by name: who and what
is one word (``Bob-lies``), and the people of a puzzle are always the same ones.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from openrlhf_ktae.tasks.knights_and_knaves.puzzles import ATOMS, Puzzle, Roles, Statement, truth

NAMES = ("Ann", "Bob", "Cy", "Dee", "Eve", "Fay")
_TRY = ("try", "suppose", "take")
_NEXT = ("next", "instead", "else")
_DONE = ("done", "solved")
_FILLER: tuple[str, ...] = ("hmm", "well", "let us see", "now then", "so far so good")
_JOINED = {"and": "and", "or": "or", "->": "implies", "<=>": "iff"}
_ROLES = ("knave", "knight")
_TRUTHS = ("false", "true")
_CLAIMS = {"telling-truth": "honest", "lying": "lies"}
_SAID = (";", ":", "not", "so", "fits", "fails", "clearly")
START = "Puzzle:"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def vocabulary() -> tuple[str, ...]:
    """Every token of a puzzle and its solution."""
    people = [f"{name}{said}" for name in NAMES for said in (":", "-honest", "-lies", "=knight", "=knave")]
    filler = {word for phrase in _FILLER for word in phrase.split()}
    words = dict.fromkeys((*TAGS, *people, *_SAID, *_TRUTHS, *_JOINED.values(), *_TRY, *_NEXT, *_DONE, *sorted(filler)))
    return (START, *(f" {word}" for word in words))


@dataclass(frozen=True)
class Habits:
    """How the author of the worked solutions works."""

    guesses: float
    """Share of solutions that are a guess."""
    brief: float
    """Share of solutions that check briefly."""
    brief_slips: float
    """Share of brief checks with the wrong outcome."""
    wordy_slips: float
    """Share of checks in words with the wrong outcome."""
    filler: float
    """Share of places between checks with words that mean nothing."""


def names(puzzle: Puzzle) -> tuple[str, ...]:
    """Who the people of a puzzle are: always the same, so that the tiny model learns logic and not names."""
    return NAMES[: len(puzzle.statements)]


def prompt(puzzle: Puzzle, names: Sequence[str]) -> str:
    """The puzzle as it is asked; it ends with the tag that opens the reasoning."""
    words = [START]
    for name, said in zip(names, puzzle.statements, strict=True):
        words += [f"{name}:", *_statement(said, names), ";"]
    return " ".join([*words, "<think>"])


def _statement(said: Statement, names: Sequence[str]) -> list[str]:
    if said[0] in ATOMS:
        return [f"{names[said[1]]}-{_CLAIMS[said[0]]}"]
    if said[0] == "not":
        return ["not", *_statement(said[1], names)]
    return [*_statement(said[1], names), _JOINED[said[0]], *_statement(said[2], names)]


def solution(puzzle: Puzzle, names: Sequence[str], habits: Habits, rng: random.Random) -> str:
    """A worked solution, right or wrong; it starts with a space."""
    people = len(names)
    order = [tuple(number >> (people - 1 - i) & 1 == 0 for i in range(people)) for number in range(2**people)]
    method = rng.random()
    words: list[str] = []
    chosen = rng.choice(order)
    if method < habits.guesses:
        words += [*_filler(habits, rng), rng.choice(_TRY), *_roles(chosen, names), ":", "clearly"]
    else:
        is_brief = method < habits.guesses + habits.brief
        for number, chosen in enumerate(order):
            words += [*_filler(habits, rng), rng.choice(_NEXT if number else _TRY), *_roles(chosen, names), ":"]
            if _check(puzzle, chosen, names, habits, rng, words, is_brief):
                break
    return " ".join(["", *words, rng.choice(_DONE), "</think>", "<answer>", *_roles(chosen, names), "</answer>"])


def _roles(roles: Roles, names: Sequence[str]) -> list[str]:
    return [f"{name}={_ROLES[role]}" for name, role in zip(names, roles, strict=True)]


def _check(
    puzzle: Puzzle,
    roles: Roles,
    names: Sequence[str],
    habits: Habits,
    rng: random.Random,
    words: list[str],
    is_brief: bool,
) -> bool:
    """Writes the checks of an assignment, up to the first one that fails; whether all of them fit."""
    for speaker, said in enumerate(puzzle.statements):
        fits = bool(truth(said, roles)) == roles[speaker]
        if rng.random() < (habits.brief_slips if is_brief else habits.wordy_slips):
            fits = not fits
        words.append(f"{names[speaker]}:")
        if not is_brief:
            # What is written is one train of thought: a slip is in the truth of the statement.
            words += _truths(said, roles, names, fits == roles[speaker])
        words.append("fits" if fits else "fails")
        if not fits:
            return False
    return True


def _truths(said: Statement, roles: Roles, names: Sequence[str], outcome: bool) -> list[str]:
    """A statement with the truth of each part after it, then that of the whole."""
    if said[0] in ATOMS:
        return [*_statement(said, names), _TRUTHS[outcome]]
    parts = [[*_statement(part, names), _TRUTHS[bool(truth(part, roles))]] for part in said[1:]]
    joined = ["not", *parts[0]] if said[0] == "not" else [*parts[0], _JOINED[said[0]], *parts[1]]
    return [*joined, "so", _TRUTHS[outcome]]


def _filler(habits: Habits, rng: random.Random) -> list[str]:
    return list(rng.choice(_FILLER).split()) if rng.random() < habits.filler else []
