"""Takes an answer apart into what has structure (points, sets, intervals, relations, matrices) and its leaves."""

import re
from dataclasses import dataclass

from openrlhf_ktae.reward.evaluate import constant
from openrlhf_ktae.reward.names import is_name
from openrlhf_ktae.reward.normalize import split_top, unwrap
from openrlhf_ktae.reward.units import read_compound


@dataclass(frozen=True)
class Leaf:
    """A text without structure of ours: a number, an expression, a word."""

    text: str


@dataclass(frozen=True)
class Group:
    """Several parts in an order that counts or not."""

    kind: str
    """Its brackets, such as ``()`` (a point or an open interval), ``[)``, ``⦃⦄`` (a set); ``list``, ``union``,
    ``minus``, ``meet``; ``cases`` with a ``case`` (value, condition) for each piece of a function."""
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

_UNION = re.compile(r"∪|\s*‹[\s,;]*or[\s,;]*›\s*|\s*,?\s+or\s+|\s*\\(?:lor|vee)(?![A-Za-z])\s*")
_COMMA = re.compile(
    r"\s*(?:‹[\s,;]*and[\s,;]*›|[,;]\s*(?:and\s+|‹\s*and\s*›)?|\s+and\s+|\\(?:land|wedge)(?![A-Za-z]))\s*"
)
_RELATION = re.compile(r"(?:(?<![<>!])=|≤|≥|<|>|≠|∈|≈|≡)")
_MINUS, _MEET = re.compile("∖"), re.compile("∩")
_SET_EQUATION = re.compile(r"(?P<name>[A-Z](?:\s*[∪∩∖]\s*[A-Z])+)\s*=\s*(?P<value>[^=]+)")
_POINT = re.compile(r"(?P<name>[A-Z]'?)\s*(?P<place>\(\s*[^(),A-Za-z]+(?:[,;][^(),A-Za-z]+){1,2}\))")
_CONDITION = re.compile(r"\s*(?:&|‹[\s,]*(?:if|for|when|where|as)\s*›|,?\s+(?:if|for|when)\s+)\s*")
_THOUSANDS = re.compile(r"(?:‹dollar›)?\s*[+-]?\s*\d{1,3}(?:,\d{3})+(?:\.\d+)?(?:\s*(?:%|°|‹[^›]*›|[A-Za-z ]+))?")
_MATRIX = re.compile(
    r"\\begin\s*\{\s*(?:[pbB]?(?:small)?matrix|array)\s*\}(?:\s*\{[lcr|\s]*\})?(.*)\\end\s*\{\s*\w+\s*\}", re.DOTALL
)
_ROW_END = re.compile(r"⏎(?:\s*\[[^\]]*\])?|\\cr(?![A-Za-z])")
_EVERYTHING = re.compile(
    r"(?:[a-z]\s*∈\s*)?\\mathbb\s*\{?\s*R\s*\}?|\\R|‹?\s*(?:[aA]ll|[aA]ny) real (?:numbers?|values?)\s*›?"
    r"|‹?\s*[aA]ll reals\s*›?"
)
_INFINITY = re.compile(r"[+-]?\s*\\infty")
_MAX_DEPTH = 12


def parse(text: str, depth: int = 0) -> Node:
    """The structure of a text in the spelling of :func:`openrlhf_ktae.reward.normalize.plain`."""
    text = text.strip()
    if depth > _MAX_DEPTH or len(text) < 2:
        return Leaf(text)
    if _EVERYTHING.fullmatch(text):
        return Group("()", (Leaf(r"-\infty"), Leaf(r"\infty")))
    system = unwrap(text, "⟦", "⟧") if text[0] == "⟦" else None
    if system is not None:
        return _system(system, depth)
    matrix = _MATRIX.fullmatch((unwrap(text, "([", ")]") or text).strip())
    if matrix and r"\begin" not in matrix[1]:
        return _matrix(matrix[1], depth)
    if r"\begin" in text:
        return Leaf(text)
    if point := _POINT.fullmatch(text):  # A(2, 3)
        return Relation((point["name"], point["place"]), ("=",))
    if equation := _SET_EQUATION.fullmatch(text):
        return Relation((equation["name"], equation["value"]), ("=",))
    parts, _ = split_top(text, _UNION)
    if len(parts) > 1 and all(parts):
        return _union([parse(part, depth + 1) for part in parts])
    if not _THOUSANDS.fullmatch(text) and read_compound(text) is None:
        parts, _ = split_top(text, _COMMA)
        parts = [part for part in parts if part]
        if len(parts) > 1:
            return _list([item for part in parts for item in _branches(parse(part, depth + 1))])
    parts, operators = split_top(text, _RELATION)
    if operators and all(parts):
        return _relation(parts, operators)
    return _bracketed(text, depth) or _set_operation(text, depth) or _leaf(text)


def assigned_name(node: Node) -> str:
    """What a node gives a value to, without spaces and braces; empty when it does not."""
    if isinstance(node, Relation) and node.operators == ("=",) and is_name(node.parts[0]):
        return tight(node.parts[0])
    return ""


def split_list(text: str) -> list[str]:
    """The parts of ``(1, 2)`` as texts."""
    inner = unwrap(text.strip(), "([⦃", ")]⦄")
    parts, _ = split_top(text if inner is None else inner, _COMMA)
    return parts


def tight(text: str) -> str:
    """The text without what makes no difference in names."""
    return re.sub(r"[\s{}‹›]", "", text)


def _union(parts: list[Node]) -> Group:
    """Alternatives; in "21, 16 or 11" each number is one."""
    sizes = {len(part.items) if isinstance(part, Group) and part.kind == "list" else 1 for part in parts}
    if len(sizes) > 1 and not any(assigned_name(item) for part in parts for item in _branches(part)):
        return Group("list", tuple(item for part in parts for item in _branches(part)))
    return Group("union", tuple(parts))


def _list(items: list[Node]) -> Node:
    """A list; p = 5, q = 2, p = 7, q = 2 is a list of two solutions."""
    names = [assigned_name(item) for item in items]
    if (solutions := _numbered_solutions(items, names)) is not None:
        return solutions
    period = len(set(names))
    if all(names) and 1 < period < len(items) and names == names[:period] * (len(items) // period):
        starts = range(0, len(items), period)
        return Group("list", tuple(Group("list", tuple(items[start : start + period])) for start in starts))
    return Group("list", tuple(items))


def _numbered_solutions(items: list[Node], names: list[str]) -> Group | None:
    """x_1 = 1, y_1 = 2, x_2 = 2, y_2 = 1 is a list of two solutions."""
    indices = [name.rpartition("_")[2] for name in names]
    if len(items) < 4 or not all(index.isdigit() for index in indices) or len(set(indices)) * 2 > len(items):
        return None
    size = indices.count(indices[0])
    rows = [slice(start, start + size) for start in range(0, len(items), size)]
    bases = [name.rpartition("_")[0] for name in names]
    if any(len(set(indices[row])) > 1 or bases[row] != bases[:size] for row in rows) or len(set(bases[:size])) < size:
        return None
    return Group(
        "list",
        tuple(
            Group("list", tuple(_renamed(item, base) for item, base in zip(items[row], bases, strict=False)))
            for row in rows
        ),
    )


def _renamed(item: Node, name: str) -> Node:
    assert isinstance(item, Relation)
    return Relation((name, *item.parts[1:]), item.operators)


def _system(content: str, depth: int) -> Node:
    """Equations that hold together, or the pieces of a function."""
    rows = [row.strip(" ,;.&") for row in _ROW_END.split(content) if row.strip(" ,;.&")]
    rows = [re.sub(r"&\s*(?=[=<>≤≥])|(?<=[=<>≤≥])\s*&", " ", row) for row in rows]  # aligned at its signs
    pieces = [split_top(row, _CONDITION)[0] for row in rows]
    if not any(len(piece) > 1 for piece in pieces):
        return parse(", ".join(re.sub(r"^‹\s*and\s*›|‹\s*and\s*›$", "", row) for row in rows), depth + 1)
    # A comma, an "if" and the & of the table may all stand between a value and its condition.
    cases = [[part.strip(" ,;") for part in piece if part.strip(" ,;")] for piece in pieces]
    return Group("cases", tuple(Group("case", tuple(parse(part, depth + 1) for part in piece)) for piece in cases))


def _set_operation(text: str, depth: int) -> Node | None:
    r"""A set without some elements, or what sets have in common; each has to be a set (``\mathbb{R}``, brackets)."""
    for kind, separator in (("minus", _MINUS), ("meet", _MEET)):
        parts, _ = split_top(text, separator)
        if len(parts) > 1 and all(part and (part[0] in "([⦃" or part.startswith("\\mathbb")) for part in parts):
            return Group(kind, tuple(parse(part, depth + 1) for part in parts))
    return None


def _relation(parts: list[str], operators: list[str]) -> Node:
    # The exact value counts, not what it is about: x = \frac13 ≈ 0.33
    if "≈" in operators and not _contradicts_itself(parts[operators.index("≈") :], 0.2):
        first = operators.index("≈")
        if first or not is_name(parts[0]):
            parts, operators = parts[: first + 1], operators[:first]
        else:
            operators = ["=" if operator == "≈" else operator for operator in operators]
    if not operators:
        return parse(parts[0])
    if "≡" in operators and "mod" not in parts[-1]:
        operators = ["=" if operator == "≡" else operator for operator in operators]
    if len(operators) > 1 and all(operator == "=" for operator in operators):
        # x = y = z, and x = y = 1, where every name counts
        several = all(is_name(part) for part in parts[:-1])
        if not several and not _contradicts_itself(parts):
            parts, operators = [parts[0], parts[-1]], ["="]
    return Relation(tuple(parts), tuple(operators))


def _contradicts_itself(parts: list[str], tolerance: float = 0.02) -> bool:
    """Whether a chain such as x = 6 = 5 states two values; a rounded one after an exact one is no contradiction."""
    numbers = [number for part in parts if (number := constant(part)) is not None]
    return any(abs(number - numbers[0]) > abs(numbers[0]) * tolerance for number in numbers)


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
