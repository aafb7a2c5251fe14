"""Verdicts on answers to knights and knaves: format, then the identity of each person.

The rules and the rewards are those of Logic-RL's public reward function, which the published runs use (1 for the format
or -1; 2 for the right answer, -1.5 for a wrong one, -2 for one that cannot be read or stands in a wrong format). Where
its search is lenient ("Zoe is not a knight" reads as knight there) an answer here cannot be read.
"""

import re
from collections.abc import Sequence

from openrlhf_ktae.reward.answer import strip_special_tokens
from openrlhf_ktae.reward.grading import CORRECT, DIFFERENT, NO_ANSWER, Verdict

UNREADABLE = "refused: unreadable"
"""Reason of a well-formed response whose answer does not say who is what."""

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_LONGEST_ANSWER = 4096
_LABEL_LINE = re.compile(r"\(\d+\) (.+) is an? (knight|knave)")
_ROLE = re.compile(r"knight|knave", re.IGNORECASE)

Identities = tuple[tuple[str, str], ...]
"""(name, ``knight`` or ``knave``) of each person."""


def label_of(names: Sequence[str], solution: Sequence[bool]) -> str:
    """The label of a puzzle, as the published data write it: ``(1) Zoey is a knight``, a line for each person."""
    said = zip(names, solution, strict=True)
    return "\n".join(
        f"({n}) {name} is a {'knight' if is_knight else 'knave'}" for n, (name, is_knight) in enumerate(said, 1)
    )


def decode_label(label: object) -> Identities:
    """The identities in a label.

    Raises:
        ValueError: it is not of the published form.
    """
    lines = label.strip().split("\n") if isinstance(label, str) else []
    found = [_LABEL_LINE.fullmatch(line.strip()) for line in lines]
    if not found or None in found or len({match[1] for match in found if match}) != len(found):
        raise ValueError(
            f"label: got {label!r}, expected a line `(1) Zoey is a knight` for each person (the published column "
            "solution_text_format)"
        )
    return tuple((match[1], match[2]) for match in found if match)


def verdict(response: str, identities: Identities, thinking_is_open: bool = True) -> Verdict:
    """The verdict on a response.

    Args:
        response: what the model wrote; special tokens at its end are ignored.
        identities: the right ones.
        thinking_is_open: whether the prompt ends with ``<think>``, which then belongs to the response.
    """
    text = strip_special_tokens(response)
    text = "<think>" + text if thinking_is_open else text
    places = [text.find(tag) for tag in TAGS]
    is_formatted = all(text.count(tag) == 1 for tag in TAGS) and places == sorted(places)
    if not is_formatted:
        return Verdict(False, "", False, NO_ANSWER)
    answer = text[places[2] + len(TAGS[2]) : places[3]].strip()
    found = read_answer(answer, [name for name, _ in identities])
    if found is None:
        return Verdict(False, answer, True, UNREADABLE)
    # Said alike, whatever the answer's own order and wording: answers are compared by this text.
    said = ", ".join(f"{name} {found[name]}" for name, _ in identities)
    is_right = all(found[name] == role for name, role in identities)
    return Verdict(is_right, said, True, CORRECT if is_right else DIFFERENT)


def read_answer(answer: str, names: Sequence[str]) -> dict[str, str] | None:
    """Who is what in an answer; None unless it says it exactly once of each person and of nobody else."""
    if len(answer) > _LONGEST_ANSWER or len(_ROLE.findall(answer)) != len(names):
        return None
    found: dict[str, str] = {}
    for name in names:
        claim = rf"(?<!\w){re.escape(name)}[\s*_]*(?:\bis\b|[:=–—-])[\s*_]*(?:an?\b|the\b)?[\s*_]*\b(knight|knave)\b"
        claims = re.findall(claim, answer, re.IGNORECASE)
        if len(claims) != 1:
            return None
        found[name] = claims[0].lower()
    return found
