r"""Letters that stand for any number: constants of integration, integers k in ``2k\pi``, the argument of a function.

Two answers that differ in such letters alone are equal. A letter is only renamed where the text says, or its place
shows, that it is arbitrary: ``x + a`` is not ``x + c``, a capacity C is no constant of integration, and ``2n`` is not
``2k``.
"""

import re
from collections.abc import Iterator
from itertools import permutations

from openrlhf_ktae.reward.normalize import split_top
from openrlhf_ktae.reward.statement import Statement, symbols, top_terms

_VARIABLES = frozenset(("x", "y", "t", "u", "v", "z", "s", "r", "w", "f", "g", "p"))
_INTEGER_LETTERS = frozenset("knmljpq")
_NUMBERED = re.compile(r"[cCkKA-D]_?\d")
_CONSTANT = re.compile(r"[cCkKA](?:_?[01])?|D")
_LETTER_CONSTANT = re.compile(r"[A-DKa-dk](?:_?\d)?|\\alpha|\\beta")
_TOKEN = re.compile(r"\\[A-Za-z]+|‹[^›]*›|[A-Za-z](?:\s*_\s*(?:\{\s*\w{1,3}\s*\}|\w))?")
# Where a constant is not linear: exponents, denominators, roots, arguments of functions, powers of it.
_NOT_LINEAR = re.compile(
    r"\^\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\\sqrt\s*\{[^{}]*\}|/\s*\([^()]*\)|/\s*\w+"
    r"|\\(?:sin|cos|tan|ln|log|exp|arctan)\s*(?:\^\s*\{?\w\}?)?\s*\([^()]*\)"
)
_DENOMINATOR = re.compile(r"(\\frac\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_RELATION = re.compile("[=≡]")
_GROWTH = re.compile(r"e\s*\^|\\(?:sin|cos|exp)")
_SHIFTS = ("{}", "({}+1)", "({}-1)", "(-{})", "(1-{})", "(-1-{})")
_MOST = 3


def rename(text: str, names: dict[str, str]) -> str:
    """The text with letters replaced, all at once; commands and upright text stay."""

    def replace(match: re.Match[str]) -> str:
        token = match.group()
        if token[0] in "\\‹":
            return token
        name = re.sub(r"[\s{}]", "", token)
        base, _, index = name.partition("_")
        return names[name] if name in names else f"{base}_{{{names[index]}}}" if index in names else token

    return _TOKEN.sub(replace, text)


def readings(answer: Statement, gold: Statement) -> Iterator[str]:
    """The answer's value with its arbitrary letters called as in the reference, in every way that makes sense.

    The first is the answer as it is. There is none when both say what their letters stand for and disagree.
    """
    if not _domains_agree(answer, gold):
        return
    yield answer.body
    if answer.parameters or gold.parameters:
        yield from _declared(answer, gold)
    else:
        yield from _constants(answer.body, gold.body)


def _domains_agree(answer: Statement, gold: Statement) -> bool:
    if not answer.parameters or not gold.parameters:
        return True
    left, right = sorted(answer.parameters.values()), sorted(gold.parameters.values())
    # Whether N holds 0 is a convention.
    return len(left) == len(right) and all(
        a == b or (a[0] == b[0] == "N" and "N" in (a, b)) for a, b in zip(left, right, strict=True)
    )


def _declared(answer: Statement, gold: Statement) -> Iterator[str]:
    """Renames letters that a condition introduces, on one side or on both."""
    ours, theirs = symbols(answer.body), symbols(gold.body)
    wanted = list(gold.parameters) or [letter for letter in theirs if letter not in ours and letter in _INTEGER_LETTERS]
    if not gold.parameters and not re.search(r"\\pi|°", gold.body):
        return
    kinds = set(gold.parameters.values()) or set(answer.parameters.values())
    if answer.parameters:
        letters = list(answer.parameters)
    else:
        letters = [
            letter for letter in ours if letter in gold.parameters or (letter not in theirs and _fits(letter, kinds))
        ]
    if not letters or len(letters) != len(wanted) or len(letters) > _MOST:
        return
    if (set(ours) - set(letters)) & set(wanted):
        return  # the answer uses the letter for something else
    for order in permutations(wanted):
        yield rename(answer.body, dict(zip(letters, order, strict=True)))
    if kinds == {"Z"} and len(wanted) == 1:
        for shift in _SHIFTS[1:]:
            yield rename(answer.body, {letters[0]: shift.format(wanted[0])})


def _fits(letter: str, kinds: set[str]) -> bool:
    return letter in _INTEGER_LETTERS if kinds <= {"Z", "N", "N0", "N+"} else letter not in _VARIABLES


def _constants(answer: str, gold: str) -> Iterator[str]:
    """Renames constants of integration, which nobody introduces."""
    if not any(letter in gold for letter in "cCKkAB") or len(answer) > 400:
        return
    ours, theirs = symbols(answer), symbols(gold)
    extra = [letter for letter in ours if letter not in theirs]
    arbitrary = _arbitrary(gold, theirs)
    if not arbitrary and extra and all(_NUMBERED.fullmatch(letter) for letter in extra):
        arbitrary = [letter for letter in theirs if letter not in ours and letter in "ABCDKabck"]
        if set(arbitrary) != set(letter for letter in theirs if letter not in _VARIABLES and letter != "\\pi"):
            return
        arbitrary = arbitrary if _are_linear(gold, arbitrary) else []
    if not arbitrary and len(extra) == 1 and extra[0] in ("C", "c", "C_1", "c_1"):
        # The answer's constant of integration, where the reference calls it k or A.
        arbitrary = [letter for letter in theirs if letter in ("k", "K", "A") and letter not in ours]
        arbitrary = arbitrary if _is_factor(gold, arbitrary, theirs) else []
    if not arbitrary or len(arbitrary) > _MOST + 1:
        return
    letters = [letter for letter in ours if letter in arbitrary or letter in extra]
    if len(letters) != len(arbitrary):
        return
    same_letter = [letter.lower() for letter in letters] == [letter.lower() for letter in arbitrary]
    if not same_letter and not _are_linear(answer, letters):
        return
    if len(arbitrary) == 1 and arbitrary[0] not in ("k", "K", "A") and not _may_replace(letters[0], arbitrary[0], gold):
        return
    if not all(letter in arbitrary or _LETTER_CONSTANT.fullmatch(letter) for letter in letters):
        return
    for order in permutations(arbitrary):
        if list(order) != letters:
            yield rename(answer, dict(zip(letters, order, strict=True)))


def _arbitrary(gold: str, letters: list[str]) -> list[str]:
    """The letters of a reference that are constants of integration by their name and place."""
    numbered = [letter for letter in letters if _NUMBERED.fullmatch(letter) and letter[0] in "cCkK"]
    numbered = numbered or [letter for letter in letters if letter in ("c", "C")]
    others = [letter for letter in letters if letter not in numbered]
    variables = {*_VARIABLES, "n"} if len(numbered) > 1 else _VARIABLES
    sides, _ = split_top(gold, _RELATION)
    if (
        len(numbered) == 1
        and len(sides) > 1
        and set(others) <= _VARIABLES
        and not re.search(rf"{numbered[0]}\s*\^", gold)
    ):
        return numbered if _TOKEN.findall(gold).count(numbered[0]) == 1 else []  # y = 1/(x + C)
    if not any(letter in variables or letter == "\\theta" for letter in others) or not _are_linear(gold, numbered):
        return []
    if len(numbered) > 1 or (numbered and "_" in numbered[0]):
        return numbered
    (only,) = numbered or ("",)
    if not only or {"A", "B"} & set(others):
        return []
    is_added = any(only in top_terms(side) for side in sides)
    parameters = [letter for letter in others if letter not in _VARIABLES]
    if only == "C" and (is_added or (len(sides) > 1 and _GROWTH.search(gold))):
        return [only]
    # Elsewhere a letter beside other parameters is one of them: ax^2 + bx + c, E = mc^2.
    return [only] if not parameters and (is_added or len(sides) > 1 or _GROWTH.search(gold)) else []


def _is_factor(gold: str, constants: list[str], letters: list[str]) -> bool:
    """Whether a reference is ``y = k e^{...}`` of a variable, with no other letter."""
    others = [letter for letter in letters if letter not in constants and letter not in _VARIABLES]
    return len(constants) == 1 and not others and _GROWTH.search(gold) is not None and _are_linear(gold, constants)


def _may_replace(letter: str, constant: str, gold: str) -> bool:
    """Whether a letter is another name of the one constant; c only of C, since x + a is not x + c."""
    return letter == constant or (
        _CONSTANT.fullmatch(letter) is not None and (constant[0] == "C" or letter[0].lower() == constant[0].lower())
    )


def _are_linear(text: str, letters: list[str]) -> bool:
    """Whether each letter occurs once, outside of exponents, denominators and functions."""
    if not letters:
        return False
    rest = _DENOMINATOR.sub(r"\1", text)
    rest = _NOT_LINEAR.sub(" ", rest)
    found = [re.sub(r"[\s{}]", "", match) for match in _TOKEN.findall(rest)]
    everywhere = [re.sub(r"[\s{}]", "", match) for match in _TOKEN.findall(text)]
    powers = {re.sub(r"[\s{}]", "", match) for match in re.findall(r"([A-Za-z](?:_\s*(?:\{\w\}|\w))?)\s*\^", rest)}
    return all(found.count(letter) == everywhere.count(letter) == 1 and letter not in powers for letter in letters)
