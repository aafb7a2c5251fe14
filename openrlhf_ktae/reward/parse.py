"""Takes an answer apart into what has structure (points, sets, intervals, relations, matrices) and its leaves."""

import re
from dataclasses import dataclass

from openrlhf_ktae.reward.normalize import split_top, unwrap
from openrlhf_ktae.reward.numbers import read_number


@dataclass(frozen=True)
class Leaf:
    """A text without structure of ours: a number, an expression, a word."""

    text: str


@dataclass(frozen=True)
class Group:
    """Several parts in an order that counts or not."""

    kind: str
    """Its brackets, such as ``()`` (a point or an open interval), ``[)``, ``⦃⦄`` (a set), or ``list``, ``union``."""
    items: tuple["Node", ...]


@dataclass(frozen=True)
class Relation:
    """A chain such as ``1 < x ≤ 2`` or ``y = 2x + 3``; one operator fewer than parts."""

    parts: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of entries."""

    rows: tuple[tuple["Node", ...], ...]


Node = Leaf | Group | Relation | Matrix

_UNION = re.compile(r"∪|\s*‹\s*or\s*›\s*|\s+or\s+|\s*\\lor(?![A-Za-z])\s*")
_COMMA = re.compile(r"\s*(?:‹\s*and\s*›|,\s*(?:and\s+|‹\s*and\s*›)?|;|\s+and\s+|\\land(?![A-Za-z]))\s*")
_RELATION = re.compile(r"(?:(?<![<>!])=|≤|≥|<|>|≠|∈|≈)")
_THOUSANDS = re.compile(r"(?:‹dollar›)?\s*[+-]?\s*\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:\s*(?:%|°|‹[^›]*›|[A-Za-z ]+))?")
_MATRIX = re.compile(
    r"\\begin\s*\{\s*(?:[pbB]?(?:small)?matrix|array)\s*\}(?:\s*\{[lcr|\s]*\})?(.*)\\end\s*\{\s*\w+\s*\}", re.DOTALL
)
_ROW_END = re.compile(r"⏎(?:\s*\[[^\]]*\])?|\\cr(?![A-Za-z])")
_EVERYTHING = re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|\\R|‹?\s*all real (?:numbers|values)\s*›?|‹?\s*all reals\s*›?")
_INFINITY = re.compile(r"[+-]?\s*\\infty")
_MAX_DEPTH = 12


def parse(text: str, depth: int = 0) -> Node:
    """The structure of a text in the spelling of :func:`openrlhf_ktae.reward.normalize.plain`."""
    text = text.strip()
    if depth > _MAX_DEPTH or len(text) < 2:
        return Leaf(text)
    if _EVERYTHING.fullmatch(text):
        return Group("()", (Leaf(r"-\infty"), Leaf(r"\infty")))
    matrix = _MATRIX.fullmatch((unwrap(text, "([", ")]") or text).strip())
    if matrix and r"\begin" not in matrix[1]:
        return _matrix(matrix[1], depth)
    if r"\begin" in text:
        return Leaf(text)
    parts, _ = split_top(text, _UNION)
    if len(parts) > 1 and all(parts):
        return Group("union", tuple(parse(part, depth + 1) for part in parts))
    if not _THOUSANDS.fullmatch(text):
        parts, _ = split_top(text, _COMMA)
        parts = [part for part in parts if part]
        if len(parts) > 1:
            return Group("list", tuple(item for part in parts for item in _branches(parse(part, depth + 1))))
    parts, operators = split_top(text, _RELATION)
    if operators and all(parts):
        return _relation(parts, operators)
    return _bracketed(text, depth) or _leaf(text)


def interval_of(relation: Relation) -> tuple[str, Node] | None:
    """The name and the set of values of a relation about a single name, such as ``x ≥ 2`` or ``1 < x ≤ 2``."""
    parts, operators = relation.parts, relation.operators
    if operators == ("∈",):
        return parts[0].strip(), parse(parts[1])
    if len(operators) == 1 and operators[0] in "<>≤≥":
        (left, right), operator = parts, operators[0]
        if not is_name(left):
            left, right, operator = right, left, {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}[operator]
        if not is_name(left):
            return None
        if operator in "<≤":
            return left, _interval(r"-\infty", right, "<", operator)
        return left, _interval(right, r"\infty", operator, "<")
    if len(operators) == 2 and is_name(parts[1]):
        if all(operator in "<≤" for operator in operators):
            return parts[1], _interval(parts[0], parts[2], *operators)
        if all(operator in ">≥" for operator in operators):
            return parts[1], _interval(parts[2], parts[0], operators[1], operators[0])
    return None


_NAME = re.compile(
    r"(?:[A-Za-z]|\\[A-Za-z]+|‹[^›]*›|[A-Za-z]{3,}(?: [a-z]+)*)(?:_\s*(?:\{[^{}]*\}|\w))?'*"
    r"(?:\s*\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\))?|\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])+\s*\)"
)


def is_name(text: str) -> bool:
    """Whether a text is something that can be given a value: ``x``, ``a_1``, ``f(x)``, ``(x, y)``, ``‹Area›``."""
    return bool(_NAME.fullmatch(text.strip())) and not _INFINITY.fullmatch(text.strip()) and text.strip() != r"\pi"


def _interval(low: str, high: str, left: str, right: str) -> Group:
    brackets = ("[" if left in "≤≥" else "(") + ("]" if right in "≤≥" else ")")
    return Group(brackets, (Leaf(low.strip()), Leaf(high.strip())))


def _relation(parts: list[str], operators: list[str]) -> Node:
    # The exact value counts, not what it is about: x = \frac13 ≈ 0.33
    if "≈" in operators:
        first = operators.index("≈")
        if first or not is_name(parts[0]):
            parts, operators = parts[: first + 1], operators[:first]
        else:
            operators = ["=" if operator == "≈" else operator for operator in operators]
    if not operators:
        return parse(parts[0])
    if len(operators) > 1 and all(operator == "=" for operator in operators) and not _contradicts_itself(parts):
        parts, operators = [parts[0], parts[-1]], ["="]
    return Relation(tuple(parts), tuple(operators))


def _contradicts_itself(parts: list[str]) -> bool:
    """Whether a chain such as x = 6 = 5 states two values; a rounded one after an exact one is no contradiction."""
    numbers = [number.value for part in parts if (number := read_number(part)) is not None]
    return any(abs(number - numbers[0]) > abs(numbers[0]) / 50 for number in numbers)


def _matrix(content: str, depth: int) -> Matrix:
    rows = [row for row in _ROW_END.split(content) if row.strip()]
    return Matrix(tuple(tuple(parse(cell, depth + 1) for cell in row.split("&")) for row in rows))


def _bracketed(text: str, depth: int) -> Node | None:
    content = unwrap(text, "([⦃", ")]⦄")
    if content is None or not content.strip():
        return None
    brackets = text[0] + text[-1]
    parts, _ = split_top(content, _COMMA)
    items = tuple(item for part in parts if part for item in _branches(parse(part, depth + 1)))
    if len(items) == 1 and brackets == "()":
        return items[0]
    if len(items) == 2:
        left = "(" if _is_infinite(items[0]) and text[0] == "[" else text[0]
        right = ")" if _is_infinite(items[1]) and text[-1] == "]" else text[-1]
        brackets = left + right
    elif brackets == "[]" and len(items) > 2:
        brackets = "()"
    return Group(brackets, items)


def _is_infinite(node: Node) -> bool:
    return isinstance(node, Leaf) and bool(_INFINITY.fullmatch(node.text))


def _leaf(text: str) -> Node:
    """A leaf, or both values of a ``±``."""
    if "±" not in text and "∓" not in text:
        return Leaf(text)
    upper = text.replace("±", "+").replace("∓", "-")
    lower = text.replace("±", "-").replace("∓", "+")
    return Group("list", (Leaf(upper.lstrip("+ ")), Leaf(lower)))


def _branches(node: Node) -> tuple[Node, ...]:
    """The elements that a node puts into a list: both values of a ``±``."""
    return node.items if isinstance(node, Group) and node.kind == "list" else (node,)
