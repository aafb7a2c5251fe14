r"""Degrees inside of expressions: ``\sin 15^\circ``, ``90^\circ - \alpha``."""

import re

_TRIGONOMETRIC = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_NUMBER_OF_DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})\s*°")
_RADIANS = re.compile(r"\\pi(?![A-Za-z])|\\arc|\\(?:sin|cos|tan)\s*\^\s*\{\s*-1")


def in_radians(text: str) -> str:
    """The text with its degrees as multiples of pi; a degree sign after a letter is dropped."""
    return _NUMBER_OF_DEGREES.sub(r"(\\frac{\1\\pi}{180})", text).replace("°", " ")


def readings(answer: str, gold: str) -> list[tuple[str, str]]:
    """The ways to read two texts of which one holds degrees, as texts without degree signs.

    Where a function is taken of degrees they are radians for the engine. Elsewhere degrees on both sides, or a missing
    sign, make no difference, and a side in degrees may equal one in radians: 30° is pi/6, and never 30 pi.
    """
    if _TRIGONOMETRIC.search(answer) or _TRIGONOMETRIC.search(gold):
        return [(in_radians(answer), in_radians(gold))]
    ways = [(answer.replace("°", " "), gold.replace("°", " "))]
    if ("°" in answer) != ("°" in gold) and _RADIANS.search(gold if "°" in answer else answer):
        ways.append((in_radians(answer), in_radians(gold)))
    return ways


def is_in_radians(text: str) -> bool:
    """Whether a text holds pi or an inverse function, as angles in radians do."""
    return _RADIANS.search(text) is not None
