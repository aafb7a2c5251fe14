"""Sets of real numbers: what intervals, inequalities, unions and single points have in common.

Bounds are ordered by their value as floats and compared exactly, so a bound with a letter in it is no region. A bound
that belongs to the set is never taken for one that does not.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from openrlhf_ktae.reward.evaluate import constant
from openrlhf_ktae.reward.names import is_name
from openrlhf_ktae.reward.parse import Group, Leaf, Node, Relation, parse

_INFINITE = {r"\infty": math.inf, r"+\infty": math.inf, r"-\infty": -math.inf}
_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_MODULUS = re.compile(r"\|\s*([A-Za-z])\s*\|")
_MOST_PIECES = 50
_CLOSE = 1e-9


@dataclass(frozen=True)
class Bound:
    """One end of a piece."""

    value: float
    text: str
    closed: bool


@dataclass(frozen=True)
class Region:
    """Pieces in order, without overlap, and what they are values of."""

    name: str
    pieces: tuple[tuple[Bound, Bound], ...]
    certain: bool
    """Whether it can be nothing else: (1,2) may be a point, {1,2} is a list as well."""


def interval_of(relation: Relation) -> tuple[str, Node] | None:
    """The name and the set of values of a relation about a single name, such as ``x ≥ 2`` or ``1 < x ≤ 2``."""
    parts, operators = relation.parts, relation.operators
    if any("|" in part for part in parts):
        return None  # |x| < 2 is about x
    if operators == ("∈",):
        return parts[0].strip(), parse(parts[1])
    if len(operators) == 1 and operators[0] in _TURNED:
        (left, right), operator = parts, operators[0]
        if not is_name(left):
            left, right, operator = right, left, _TURNED[operator]
        if not is_name(left):
            return None
        if operator in "<≤":
            return left, _interval(r"-\infty", right, "<", operator)
        return left, _interval(right, r"\infty", operator, "<")
    if len(operators) == 2 and is_name(parts[1]):
        if all(operator in "<≤" for operator in operators):
            return parts[1], _interval(parts[0], parts[2], *operators)
        if all(operator in "≥>" for operator in operators):
            return parts[1], _interval(parts[2], parts[0], operators[1], operators[0])
    return None


def region_of(node: Node) -> Region | None:
    """The set of real numbers that a node is, or None."""
    if isinstance(node, Relation):
        return _of_relation(node)
    if not isinstance(node, Group) or not 0 < len(node.items) <= _MOST_PIECES:
        return None
    if node.kind in ("()", "(]", "[)", "[]"):
        return _of_interval(node)
    if node.kind == "⦃⦄":
        return _points(node)
    parts = [region_of(item) for item in node.items]
    known = [part for part in parts if part is not None]
    names = {part.name for part in known} - {""}
    if len(known) < len(parts) or len(names) > 1 or (node.kind == "list" and not all(part.name for part in known)):
        return None
    name = names.pop() if names else ""
    if node.kind == "minus":
        return _meet(known[0], [_complement(part) for part in known[1:]], name)
    if node.kind == "meet":
        return _meet(known[0], known[1:], name)
    if node.kind == "list":  # x > 1, x < 3 are both meant; x < 1, x > 3 can only be one or the other
        both = _meet(known[0], known[1:], name)
        if both.pieces:
            return both
    return _join([piece for part in known for piece in part.pieces], name)


def same_region(left: Region, right: Region, equal: Callable[[str, str], bool]) -> bool:
    """Whether two regions hold the same numbers, given a way to compare two bounds."""
    if (left.name and right.name and left.name != right.name) or len(left.pieces) != len(right.pieces):
        return False
    ends = [
        (end, other)
        for piece, other_piece in zip(left.pieces, right.pieces, strict=True)
        for end, other in zip(piece, other_piece, strict=True)
    ]
    if any(end.closed != other.closed or math.isinf(end.value) != math.isinf(other.value) for end, other in ends):
        return False
    return all(
        end.value == other.value if math.isinf(end.value) else equal(end.text, other.text) for end, other in ends
    )


def _interval(low: str, high: str, left: str, right: str) -> Group:
    brackets = ("[" if left in "≤≥" else "(") + ("]" if right in "≤≥" else ")")
    return Group(brackets, (Leaf(low.strip()), Leaf(high.strip())))


def _bound(text: str, closed: bool) -> Bound | None:
    tight = text.replace(" ", "")
    if tight in _INFINITE:
        return Bound(_INFINITE[tight], tight, False)
    value = constant(text)
    return None if value is None else Bound(value, text, closed)


def _of_interval(node: Group) -> Region | None:
    if len(node.items) != 2 or not all(isinstance(item, Leaf) for item in node.items):
        return None
    texts = [item.text for item in node.items if isinstance(item, Leaf)]
    low, high = _bound(texts[0], node.kind[0] == "["), _bound(texts[1], node.kind[1] == "]")
    if low is None or high is None or low.value > high.value or (low.value == high.value and node.kind != "[]"):
        return None
    return Region("", ((low, high),), node.kind in ("(]", "[)") or math.inf in (-low.value, high.value))


def _points(node: Group) -> Region | None:
    bounds = [_bound(item.text, True) if isinstance(item, Leaf) else None for item in node.items]
    known = [bound for bound in bounds if bound is not None and not math.isinf(bound.value)]
    return None if len(known) < len(bounds) else replace(_join([(one, one) for one in known], ""), certain=False)


def _of_relation(relation: Relation) -> Region | None:
    parts, operators = relation.parts, relation.operators
    modulus = _MODULUS.search(" ".join(parts))
    if modulus is not None:
        return _of_modulus(relation, modulus)
    if operators in (("≠",), ("=",)) and is_name(parts[0]):
        point = _bound(parts[1], True)
        if point is None or math.isinf(point.value):
            return None
        region = Region(_tight(parts[0]), ((point, point),), False)
        return _complement(region) if operators == ("≠",) else region
    found = interval_of(relation)
    if found is None:
        return None
    region = region_of(found[1])
    return (
        None
        if region is None
        else replace(region, name=_tight(found[0]), certain=operators != ("∈",) or region.certain)
    )


def _of_modulus(relation: Relation, modulus: re.Match[str]) -> Region | None:
    """The values of x where ``|x|`` lies between bounds."""
    letter = modulus[1]
    region = _of_relation(
        Relation(tuple(part.replace(modulus.group(), letter) for part in relation.parts), relation.operators)
    )
    if region is None or any("|" in part.replace(modulus.group(), "") for part in relation.parts):
        return None
    zero = Bound(0.0, "0", True)
    right = _meet(region, [Region("", ((zero, Bound(math.inf, r"\infty", False)),), True)], letter)
    left = [(_negative(high), _negative(low)) for low, high in reversed(right.pieces)]
    return _join([*left, *right.pieces], letter)


def _negative(bound: Bound) -> Bound:
    text = bound.text[1:] if bound.text.startswith("-") else f"-({bound.text})"
    return Bound(-bound.value, text.replace(r"-(\infty)", r"-\infty"), bound.closed)


def _tight(name: str) -> str:
    return re.sub(r"[\s{}]", "", name)


def _join(pieces: list[tuple[Bound, Bound]], name: str) -> Region:
    """The union, with pieces that touch made one."""
    joined: list[tuple[Bound, Bound]] = []
    for low, high in sorted(pieces, key=lambda piece: (piece[0].value, not piece[0].closed)):
        if joined:
            before_low, before = joined[-1]
            gap = low.value - before.value
            if gap < -_CLOSE or (abs(gap) <= _CLOSE and (low.closed or before.closed)):
                further = high.value - before.value
                if further > _CLOSE or (abs(further) <= _CLOSE and high.closed):
                    joined[-1] = (before_low, high)
                continue
        joined.append((low, high))
    return Region(name, tuple(joined), True)


def _complement(region: Region) -> Region:
    pieces, start = [], Bound(-math.inf, r"-\infty", False)
    for low, high in region.pieces:
        if not math.isinf(low.value):
            pieces.append((start, replace(low, closed=not low.closed)))
        start = replace(high, closed=not high.closed)
    if not region.pieces or not math.isinf(start.value) or start.value < 0:
        pieces.append((start, Bound(math.inf, r"\infty", False)))
    return Region(region.name, tuple(pieces), True)


def _meet(first: Region, others: list[Region], name: str) -> Region:
    pieces = list(first.pieces)
    for other in others:
        met = []
        for low, high in pieces:
            for other_low, other_high in other.pieces:
                start = max(low, other_low, key=lambda bound: (bound.value, not bound.closed))
                end = min(high, other_high, key=lambda bound: (bound.value, bound.closed))
                if start.value < end.value - _CLOSE or (
                    abs(start.value - end.value) <= _CLOSE and start.closed and end.closed
                ):
                    met.append((start, end))
        pieces = met[:_MOST_PIECES]
    return Region(name, tuple(pieces), True)
