"""Whether an answer equals a reference answer: the only comparison, for training and for evaluation.

Structure, numbers and words are compared here, in microseconds. What is left are pairs of expressions; they go to a
comparison of expressions, which is :mod:`openrlhf_ktae.reward.symbolic` or, to find out whether it is needed at all,
:func:`compare_cheaply`'s refusal to answer.
"""

import re
from collections.abc import Callable

from openrlhf_ktae.reward.evaluate import compare_simple
from openrlhf_ktae.reward.limits import MAX_LENGTH, Refused, check_limits
from openrlhf_ktae.reward.normalize import plain
from openrlhf_ktae.reward.numbers import read_number
from openrlhf_ktae.reward.parse import Group, Leaf, Matrix, Node, Relation, interval_of, is_name, parse
from openrlhf_ktae.reward.quantity import compare_bases, compare_quantities, read_quantity, units_differ

_MAX_ITEMS = 100

SymbolicEquality = Callable[[str, str], bool]
"""Whether two expressions in LaTeX (answer, gold) are equal."""


class Undecided(Exception):
    """Only the symbolic engine can tell."""


def is_equivalent(answer: str, gold: str) -> bool:
    """Whether an answer equals a reference answer. Computes in this process, with no deadline: trusted input only.

    Args:
        answer: the final answer, LaTeX or plain text, without its box.
        gold: the reference answer; its form is the one to match where form counts (a point is no interval).
    """
    from openrlhf_ktae.reward.symbolic import equal_expressions

    try:
        return compare(answer, gold, equal_expressions)
    except Refused:
        return False


def compare_cheaply(answer: str, gold: str) -> bool | None:
    """As :func:`is_equivalent`, without the symbolic engine; None when it is needed. At most some 0.1 ms."""

    def refuse(left: str, right: str) -> bool:
        raise Undecided

    try:
        return compare(answer, gold, refuse)
    except Undecided:
        return None


def compare(answer: str, gold: str, symbolic: SymbolicEquality) -> bool:
    """Whether an answer equals a reference answer, given a way to compare two expressions.

    Raises:
        Refused: expressions are left to compare that are too large for the symbolic engine.
    """
    answer, gold = answer.strip(), gold.strip()
    if answer == gold:
        return bool(answer)
    if max(len(answer), len(gold)) > MAX_LENGTH:
        raise Refused(f"longer than {MAX_LENGTH} characters")
    numbers = read_number(answer), read_number(gold)
    if numbers[0] is not None and numbers[1] is not None:
        quantities = read_quantity(answer), read_quantity(gold)
        return bool(compare_quantities(*quantities))
    answer, gold = plain(answer), plain(gold)
    if not answer or not gold:
        return False
    if answer.replace(" ", "") == gold.replace(" ", ""):
        return True
    comparison = _Comparison(symbolic)
    if comparison.nodes(parse(answer), parse(gold)):
        return True
    # 100,200 may be a number or a list; the other side says which.
    spaced = [_LIST_COMMA.sub(", ", text) if _THOUSANDS.fullmatch(text) else text for text in (answer, gold)]
    if [answer, gold] == spaced or (answer != spaced[0] and gold != spaced[1]):
        return False
    return comparison.nodes(parse(spaced[0]), parse(spaced[1]))


_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_LIST_COMMA = re.compile(",")


class _Comparison:
    """Compares nodes; the symbolic engine is asked about leaves alone."""

    def __init__(self, symbolic: SymbolicEquality) -> None:
        self._symbolic = symbolic

    def nodes(self, answer: Node, gold: Node) -> bool:
        if isinstance(answer, Relation) or isinstance(gold, Relation):
            return self._relations(answer, gold)
        if isinstance(answer, Matrix) or isinstance(gold, Matrix):
            return self._matrices(answer, gold)
        if isinstance(answer, Group) and isinstance(gold, Group):
            return self._groups(answer, gold)
        if isinstance(answer, Group) or isinstance(gold, Group):
            left, right = _single(answer), _single(gold)
            return left is not None and right is not None and self.leaves(left, right)
        return self.leaves(answer.text, gold.text)

    def leaves(self, answer: str, gold: str) -> bool:
        tight = answer.replace(" ", ""), gold.replace(" ", "")
        if tight[0] == tight[1]:
            return True
        bases = compare_bases(*tight)
        if bases is not None:
            return bases
        left, right = read_quantity(answer), read_quantity(gold)
        verdict = compare_quantities(left, right)
        if verdict is not None:
            return verdict
        is_text = "‹" in answer + gold
        words = _words(answer, is_text), _words(gold, is_text)
        if words[0] is not None and words[1] is not None:
            return words[0] == words[1]
        if (words[0] is None) != (words[1] is None) and _is_prose(answer if words[0] is not None else gold):
            return False
        # The engine reads f' as f.
        if units_differ(left, right) or answer.count("'") != gold.count("'"):
            return False
        bodies = left.body.replace(" ", ""), right.body.replace(" ", "")
        if bodies[0] == bodies[1]:
            return True
        simple = compare_simple(left.body, right.body)
        if simple is not None:
            return simple
        check_limits(left.body)
        check_limits(right.body)
        return self._symbolic(_upright(left.body), _upright(right.body))

    def _relations(self, answer: Node, gold: Node) -> bool:
        left, right = _value_of(answer), _value_of(gold)
        if left is not None and right is not None:
            (answer_name, answer_value), (gold_name, gold_value) = left, right
            same_name = not answer_name or not gold_name or _tight(answer_name) == _tight(gold_name)
            if same_name and self.nodes(answer_value, gold_value):
                return True
        if not isinstance(answer, Relation) or not isinstance(gold, Relation):
            return False
        return self._equations(answer, gold)

    def _equations(self, answer: Relation, gold: Relation) -> bool:
        answer_operator, gold_operator = answer.operators[0], gold.operators[0]
        if len(answer.operators) != len(gold.operators):
            return False
        direct, flipped = (answer.parts, answer.operators), _flip(answer)
        for parts, operators in (direct, flipped):
            if operators == gold.operators and all(
                _tight(part) == _tight(other) for part, other in zip(parts, gold.parts, strict=True)
            ):
                return True
        if len(gold.operators) > 1 or {answer_operator, gold_operator} & {"∈", "≈"}:
            return False
        for parts, operators in (direct, flipped):
            if operators == gold.operators:
                sides = [f"({parts[0]})-({parts[1]})", f"({gold.parts[0]})-({gold.parts[1]})"]
                for side in sides:
                    check_limits(side)
                relation = "=0" if gold_operator in "=≠" else ">0"
                if self._symbolic(_upright(sides[0]) + relation, _upright(sides[1]) + relation):
                    return True
        return False

    def _matrices(self, answer: Node, gold: Node) -> bool:
        left, right = _rows(answer), _rows(gold)
        if left is None or right is None:
            return False
        if isinstance(answer, Group) or isinstance(gold, Group):  # (1, 2) for a column or a row
            left, right = [[cell for row in left for cell in row]], [[cell for row in right for cell in row]]
        if [len(row) for row in left] != [len(row) for row in right]:
            return False
        return all(
            self.nodes(cell, other)
            for row, other_row in zip(left, right, strict=True)
            for cell, other in zip(row, other_row, strict=True)
        )

    def _groups(self, answer: Group, gold: Group) -> bool:
        if len(answer.items) != len(gold.items) or len(gold.items) > _MAX_ITEMS:
            return False
        kinds = {answer.kind, gold.kind}
        unordered = kinds <= {"⦃⦄", "list", "union"}
        if len(kinds) == 2 and not unordered and not ("list" in kinds and kinds & {"()", "[]"}):
            return False
        stripped = _without_names(answer.items, gold.items)
        if stripped is None:
            return False
        left, right = stripped
        named = left is not answer.items or right is not gold.items
        if not unordered or (named and not _one_name(answer.items, gold.items)):
            return all(self.nodes(a, b) for a, b in zip(left, right, strict=True))
        return self._matching(list(left), list(right))

    def _matching(self, left: list[Node], right: list[Node]) -> bool:
        """Whether the elements pair up in any order. Identical ones are paired first, which is quick."""
        for item in list(left):
            if item in right:
                left.remove(item)
                right.remove(item)
        for item in left:
            partner = next((other for other in right if self.nodes(item, other)), None)
            if partner is None:
                return False
            right.remove(partner)
        return True


_WORD_CHARACTERS = re.compile(r"[A-Za-z][A-Za-z\s'.-]*")
_CHOICE = re.compile(r"\(?\s*([A-Z])\s*\)?[.:]?")


def _words(text: str, is_text: bool) -> str | None:
    """The letters of a text answer in lower case; None for what may be mathematics: short, and neither side is text."""
    bare = text.replace("‹", "").replace("›", "").strip()
    choice = _CHOICE.fullmatch(bare)
    if choice:
        return choice[1]
    inner = bare[1:-1] if bare.startswith("(") and bare.endswith(")") else bare
    inner = inner.strip("\"' .")
    if not _WORD_CHARACTERS.fullmatch(inner):
        return None
    letters = re.sub(r"[^A-Za-z]", "", inner)
    if not is_text and len(letters) < 4:
        return None
    return letters.lower()


def _is_prose(text: str) -> bool:
    return "‹" in text or len(text) > 5


def _upright(text: str) -> str:
    return text.replace("‹", r"\mathrm{").replace("›", "}").replace("⦃", r"\{").replace("⦄", r"\}").replace("⏎", r"\\")


def _tight(text: str) -> str:
    return re.sub(r"[\s{}‹›]", "", text)


def _value_of(node: Node) -> tuple[str, Node] | None:
    """The name (empty when there is none) and the value that a node gives to it."""
    if not isinstance(node, Relation):
        return "", node
    if node.operators == ("=",):
        name, value = node.parts
        if is_name(name):
            return name, parse(value)
        return (value, parse(name)) if is_name(value) else None
    if node.operators == ("≠",) and is_name(node.parts[0]):
        return None
    return interval_of(node)


def _single(node: Leaf | Group) -> str | None:
    """The text of a leaf, or of the one element of a set."""
    if isinstance(node, Group):
        only = node.items[0] if len(node.items) == 1 and node.kind in ("⦃⦄", "[]") else None
        return only.text if isinstance(only, Leaf) else None
    return node.text


def _flip(relation: Relation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    turned = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
    return relation.parts[::-1], tuple(turned.get(operator, operator) for operator in relation.operators[::-1])


def _rows(node: Node) -> list[list[Node]] | None:
    if isinstance(node, Matrix):
        return [list(row) for row in node.rows]
    if isinstance(node, Group) and node.kind in ("()", "list"):
        return [list(node.items)]
    return None


def _name(node: Node) -> str:
    if isinstance(node, Relation) and node.operators == ("=",) and is_name(node.parts[0]):
        return _tight(node.parts[0])
    return ""


def _one_name(left: tuple[Node, ...], right: tuple[Node, ...]) -> bool:
    return len({name for item in left + right if (name := _name(item))}) <= 1


def _without_names(left: tuple[Node, ...], right: tuple[Node, ...]) -> tuple[tuple[Node, ...], tuple[Node, ...]] | None:
    """Brings ``b = 1, a = 2`` into the order of the other side and takes the names off; None when they differ."""
    names = [_name(item) for item in left], [_name(item) for item in right]
    if not any(names[0]) and not any(names[1]):
        return left, right
    if all(names[0]) and all(names[1]) and len(set(names[1])) == len(names[1]):
        if sorted(names[0]) != sorted(names[1]):
            return None
        left = tuple(left[names[0].index(name)] for name in names[1])
    return tuple(_value(item) for item in left), tuple(_value(item) for item in right)


def _value(node: Node) -> Node:
    return parse(node.parts[1]) if isinstance(node, Relation) and _name(node) else node
