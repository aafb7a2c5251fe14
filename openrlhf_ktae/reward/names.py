r"""What an answer may call its value: ``x``, ``a_1``, ``f(3)``, ``AB``, ``|PQ|``, ``\angle ABC``, ``S_1:S_2``, ``m+n``.

A name says what a value is of; it never is a value itself. Two names that differ make two answers different, so a name
is only taken off where the other side has none, or the same one.
"""

import re

from openrlhf_ktae.reward.normalize import split_top, unwrap

_INDEX = r"(?:_\s*(?:\{[^{}]*\}|\\[A-Za-z]+|\w))?"
_POINT = r"[A-Z](?:_\s*(?:\{\s*\w\s*\}|\w)|')*"
_SEGMENT = rf"{_POINT}(?:\s*{_POINT}){{1,5}}"
_SYMBOL = rf"(?:[A-Za-z]|\\[A-Za-z]+|‹[^›]*›|[A-Za-z]{{3,}}(?: [a-z]+)*){_INDEX}'*"
_LETTERS = r"\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\)"
_MARK = r"(?:m\s*)?\\(?:overline|overrightarrow|widehat|overarc|wideparen|bar|vec|angle|measuredangle|triangle|odot)"
_OBJECT = rf"(?:(?:{_MARK}\s*)+(?:\{{\s*(?:{_SEGMENT}|{_SYMBOL})\s*\}}|{_SEGMENT}|{_SYMBOL})|{_SEGMENT}|{_SYMBOL})"
_VALUE_OF = (  # f(3), f^{-1}(x), P(A|B); with a sum inside only for letters that functions have: x(x+1) is a product
    rf"(?:[A-Za-z]|\\[a-z]+){_INDEX}(?:'+|\^\s*\{{\s*-\s*1\s*\}}|\^\s*\{{\s*\(\s*\d+\s*\)\s*\}})?"
    r"\s*\((?:\s*-?\s*(?:\d+|[A-Za-z])(?:\s*[,|]\s*-?\s*(?:\d+|[A-Za-z]))*\s*)\)|[fghFGHPEDW]\s*\((?:[^()]|\([^()]{0,20}\)){1,40}\)"
    r"|\\mathbb\s*\{\s*[EPD]\s*\}\s*[\[(][^][()]{1,20}[\])]"
)
_OF_AN_ANGLE = (
    r"\\(?:sin|cos|tan|cot|sec|csc|arg|max|min|Re|Im|dim|det|deg)\s*(?:\^\s*\{?\s*\d\s*\}?\s*)?"
    rf"(?:\(?\s*{_OBJECT}\s*\)?|[fgh]\s*\(\s*[A-Za-z]\s*\))?"
)
_PLAIN_NAME = re.compile(rf"{_SYMBOL}(?:\s*{_LETTERS})?|\(\s*[A-Za-z]{_INDEX}(?:\s*,\s*[A-Za-z]{_INDEX})+\s*\)")
_NAME = re.compile(
    rf"\|?\s*(?:{_OBJECT})\s*\|?(?:\s*{_LETTERS})?|\|?\s*{_SEGMENT}\s*\|?\s*\^\s*\{{?\s*2\s*\}}?|{_VALUE_OF}|{_OF_AN_ANGLE}"
)
_MODULUS = re.compile(r"\|[^|]+\|")
_SQUARE = re.compile(r"\^\s*\{?\s*2\s*\}?$")
_HAS_SEGMENT = re.compile(rf"{_POINT}\s*[A-Z]|[fghFGHP]\s*\(\s*-?\s*\d")
_INFINITY = re.compile(r"[+-]?\s*\\infty")
_NO_NAMES = {r"\pi", r"\emptyset", r"\infty", "e", "i"}
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_RATIO = re.compile(r"[:/]")
_PRODUCT = re.compile(r"\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*")
_TERM = re.compile(r"[+-]")
_SET_NAME = re.compile(r"[A-Z](?:_\w)?(?:\s*[∪∩∖]\s*(?:\\complement\s*)?[A-Z](?:_\w)?)+")
_COMMAND = re.compile(r"\\[A-Za-z]+|‹[^›]*›")
_TOTAL = re.compile(r"(?:[A-Za-z0-9+\-^{}()/*\s']|_\s*(?:\{\w\}|\w)|\\(?:frac|cdot|sqrt|times)(?![A-Za-z]))+")
_CURVE_LETTERS = frozenset("xyz")
_LONGEST = 120


def is_name(text: str) -> bool:
    r"""Whether a text can be given a value: ``x``, ``f(x)``, ``(x, y)``, ``AB``, ``\frac{MN}{PQ}``."""
    text = text.strip()
    if not text or len(text) > _LONGEST or text in _NO_NAMES or text.isdigit():
        return False
    if _PLAIN_NAME.fullmatch(text) or (_MODULUS.fullmatch(text) and has_unknowns(text)):
        return True
    if text[0] not in "|\\(" and not text[0].isalpha():
        return False
    return _is_single(text) or _SET_NAME.fullmatch(text) is not None or _is_composed(text)


def has_unknowns(text: str) -> bool:
    """Whether a text holds letters other than those of commands and the constants e and i."""
    return re.search(r"[A-DF-Za-df-hj-zE]", _COMMAND.sub("", text)) is not None


def is_total(text: str, of_reference: bool) -> bool:
    """Whether a text is an expression in several unknowns that a problem may ask for: ``m+n``, ``10a+b``.

    In a reference, an expression in x, y and z alone is one side of a curve's equation, and the equation is the answer.
    """
    if len(text) > _LONGEST or not _TOTAL.fullmatch(text):
        return False
    letters = set(re.findall(r"[A-Za-z](?:_\s*\{?\s*\w)?", _COMMAND.sub("", text)))
    return len(letters) >= 2 and not (of_reference and letters & _CURVE_LETTERS)


def same_name(name: str, other: str) -> bool:
    """Whether two names are of the same thing; ``f(x)`` and ``f(n)`` are not compared here (see :func:`head`)."""
    if not name or not other:
        return True
    left, right = _canonical(name), _canonical(other)
    if left == right:
        return True
    for short, long in ((left, right), (right, left)):
        # S for S_{ABC}, V for V_max; a numbered name is another one. y for f(x).
        if long.startswith(short + "_") and not any(character.isdigit() for character in long[len(short) :]):
            return len(long) > len(short) + 2
        is_function = short[-1:] != "'" and re.fullmatch(rf"{re.escape(short)}\([a-z]\)", long)
        if (short == "y" and re.fullmatch(r"[fgh]\(x\)", long)) or is_function:
            return True
    return False


def inverted(name: str) -> str | None:
    r"""``\frac{BC}{AB}`` for ``\frac{AB}{BC}``; None for what is no quotient of names."""
    fraction = _FRACTION.fullmatch(name.strip())
    return rf"\frac{{{fraction[2]}}}{{{fraction[1]}}}" if fraction else None


def head(name: str) -> tuple[str, tuple[str, ...]] | None:
    """What is defined and its variables, for ``f(x, y)`` or ``a_n``; None for a name without variables."""
    tight = re.sub(r"[\s{}]", "", name)
    match = re.fullmatch(r"((?:[A-Za-z]|\\[a-z]+)(?:_\w)?'*(?:\^-1)?)\(([A-Za-z](?:,[A-Za-z])*)\)", tight)
    if match:
        return match[1], tuple(match[2].split(","))
    match = re.fullmatch(r"([A-Za-z])_([a-z])", tight)
    return (match[1] + "_", (match[2],)) if match else None


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key of the order in which people list unknowns: x before y, x_2 before x_10."""
    tight = re.sub(r"[\s{}\\_‹›|]", "", name)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.findall(r"\d+|\D", tight)]


def are_numbered(names: list[str]) -> bool:
    """Whether names are one letter with the numbers 1, 2, ... in order: m_1, m_2."""
    tight = [re.sub(r"[\s{}]", "", name) for name in names]
    return bool(tight) and tight == [f"{tight[0][:1]}_{number}" for number in range(1, len(tight) + 1)]


def are_roots(names: list[str]) -> bool:
    """Whether names number the values of one unknown, as x_1, x_2, x_3 do and V_1, V_2 do not."""
    return are_numbered(names) and names[0].strip()[0] in "xtzy"


def _is_single(text: str) -> bool:
    match = _NAME.fullmatch(text)
    return match is not None and not _INFINITY.fullmatch(text) and (text[0] != "|" or text.count("|") == 2)


def _is_composed(text: str) -> bool:
    """A ratio of names, or a product or sum of names with a segment among them."""
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        return all(_is_part(part) for part in fraction.groups())
    for separator in (_RATIO, _TERM, _PRODUCT):
        parts, _ = split_top(text, separator)
        if separator is _RATIO and ":" not in text and len(split_top(text, _TERM)[0]) > 1:
            continue  # x/a + y/b is a sum
        if 1 < len(parts) <= 6:
            parts = [unwrap(part, "(", ")") or part for part in parts]
            return all(map(_is_part, parts)) and (separator is _RATIO or _HAS_SEGMENT.search(text) is not None)
    return False


def _is_part(text: str) -> bool:
    text = text.strip()
    if _is_single(_SQUARE.sub("", text).strip()) and text not in _NO_NAMES:
        return True
    parts, _ = split_top(text, _PRODUCT)
    if len(parts) == 1:
        parts, _ = split_top(text, _TERM)
    return 1 < len(parts) <= 4 and all(_is_single(_SQUARE.sub("", part).strip()) for part in parts)


def _canonical(name: str) -> str:
    text = _FRACTION.sub(r"\1/\2", name) if "frac" in name else name
    text = re.sub(r"\\(?:overline|overrightarrow|angle|measuredangle|triangle|vec|bar|widehat)(?![A-Za-z])", "", text)
    text = re.sub(r"[\s{}‹›]", "", text).replace(":", "/")
    if re.fullmatch(r"\|[A-Z_0-9']+\|", text):
        text = text[1:-1]  # |AB| is AB; |x| is not x
    return "".join(sorted(text)) if re.fullmatch("[A-Z]{2}", text) else text
