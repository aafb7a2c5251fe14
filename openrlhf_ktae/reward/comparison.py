"""Compares parsed answers: relations, groups and matrices by their parts, leaves by what they are."""

from collections.abc import Callable

from openrlhf_ktae.reward.leaves import compare_leaves, equal_sides
from openrlhf_ktae.reward.names import (
    are_numbered,
    are_roots,
    has_unknowns,
    head,
    inverted,
    is_name,
    is_total,
    natural_order,
    same_name,
)
from openrlhf_ktae.reward.normalize import unwrap
from openrlhf_ktae.reward.parameters import rename
from openrlhf_ktae.reward.parse import Group, Leaf, Matrix, Node, Relation, assigned_name, parse, split_list, tight
from openrlhf_ktae.reward.regions import interval_of, region_of, same_region
from openrlhf_ktae.reward.residues import Residue, read_residue
from openrlhf_ktae.reward.statement import symbols
from openrlhf_ktae.reward.vectors import components

_MAX_ITEMS = 100
_UNORDERED = frozenset(("⦃⦄", "list", "union", "cases"))
_ORDERED = frozenset(("()", "[]"))

SymbolicEquality = Callable[[str, str], bool]
"""Whether two expressions in LaTeX (answer, gold) are equal."""


class Comparison:
    """Compares nodes; the symbolic engine is asked about leaves alone."""

    def __init__(self, symbolic: SymbolicEquality) -> None:
        self._symbolic = symbolic

    def nodes(self, answer: Node, gold: Node) -> bool:
        """Whether two parsed answers are equal."""
        left, right = _residue(answer), _residue(gold)
        if left and right:
            return left[1] == right[1] and same_name(left[0], right[0])
        for residue, beside in ((left, gold), (right, answer)):
            if residue and not residue[0] and isinstance(beside, Leaf):  # 3 for 3 (mod 7)
                return self.leaves(str(residue[1].written), beside.text)
        if isinstance(answer, Group | Relation) and isinstance(gold, Group | Relation):
            verdict = self._regions(answer, gold)
            if verdict is not None:
                return verdict
        if isinstance(answer, Relation) or isinstance(gold, Relation):
            return self._relations(answer, gold)
        vectors = self._vectors(answer, gold)
        if vectors is not None:
            return vectors
        if isinstance(answer, Matrix) or isinstance(gold, Matrix):
            return self._matrices(answer, gold)
        if isinstance(answer, Group) and isinstance(gold, Group):
            return self._groups(answer, gold)
        if isinstance(answer, Group) or isinstance(gold, Group):
            left, right = _single(answer), _single(gold)
            return left is not None and right is not None and self.leaves(left, right)
        return self.leaves(answer.text, gold.text)

    def leaves(self, answer: str, gold: str) -> bool:
        """Whether two texts without structure are equal."""
        return compare_leaves(answer, gold, self._symbolic)

    def _regions(self, answer: Node, gold: Node) -> bool | None:
        """Compares sets of numbers; None where one side may be something else and they are not the same set."""
        left = region_of(answer)
        right = None if left is None else region_of(gold)
        if left is None or right is None or not (left.certain or right.certain):
            return None
        if same_region(left, right, self.leaves):
            return True
        one_name = len({left.name, right.name} - {""}) < 2
        return False if left.certain and right.certain and one_name else None

    def _relations(self, answer: Node, gold: Node) -> bool:
        answer, gold = _spread(answer, gold), _spread(gold, answer)
        if isinstance(answer, Group) and isinstance(gold, Group):
            return self._groups(answer, gold)
        left, right = self._value_of(answer, of_reference=False), self._value_of(gold, of_reference=True)
        if _is_interval_for_list(answer, gold) or _is_interval_for_list(gold, answer):
            return False
        if left is not None and right is not None and self._assigned(answer, left, right):
            return True
        if not isinstance(answer, Relation) or not isinstance(gold, Relation):
            return False
        return self._equations(answer, gold)

    def _value_of(self, node: Node, of_reference: bool) -> tuple[str, Node] | None:
        """The name (empty when there is none) and the value that a node gives to it."""
        if not isinstance(node, Relation):
            return "", node
        if set(node.operators) == {"="} and all(map(is_name, node.parts[1:-1])):
            name, value = node.parts[0], node.parts[-1]
            if is_name(name):
                return name, parse(value)
            if is_name(value):
                return value, parse(name)
            # a^2 + b = 0 is an equation in its usual form, and no sum that was asked for.
            if is_total(name, of_reference) and not has_unknowns(value) and value.strip() != "0":
                return name, parse(value)
            # 3 + 4 = 7 states 7; 3 + 4 = 8 states nothing.
            is_true = not has_unknowns(name + value) and self.leaves(name, value)
            return ("", parse(value)) if is_true else None
        if node.operators == ("≠",) and is_name(node.parts[0]):
            return None
        return interval_of(node)

    def _assigned(self, answer: Node, left: tuple[str, Node], right: tuple[str, Node]) -> bool:
        """Whether two values of the same thing are equal; the variables of a function may have other names."""
        turned = inverted(left[0])
        if turned and not same_name(left[0], right[0]) and same_name(turned, right[0]):
            value, wanted = left[1], right[1]
            if not isinstance(value, Leaf) or not isinstance(wanted, Leaf):
                return False
            return self.leaves(rf"\frac{{1}}{{{value.text}}}", wanted.text)
        ours, theirs = head(left[0]), head(right[0])
        if ours is None or theirs is None or ours[1] == theirs[1]:
            return same_name(left[0], right[0]) and self.nodes(left[1], right[1])
        (function, old), (other, new) = ours, theirs
        if function != other or len(old) != len(new) or not isinstance(answer, Relation):
            return False
        value = answer.parts[1] if is_name(answer.parts[0]) else answer.parts[0]
        if (set(symbols(value)) - set(old)) & set(new):
            return False  # the value holds the other letter already
        return self.nodes(parse(rename(value, dict(zip(old, new, strict=True)))), right[1])

    def _equations(self, answer: Relation, gold: Relation) -> bool:
        if len(answer.operators) != len(gold.operators):
            return False
        (answer_operator, *_), (gold_operator, *_) = answer.operators, gold.operators
        ways: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(answer.parts, answer.operators), _flip(answer)]
        wanted = [tight(part) for part in gold.parts]
        if any(operators == gold.operators and [tight(part) for part in parts] == wanted for parts, operators in ways):
            return True
        if "".join(answer.parts).count("'") != "".join(gold.parts).count("'"):
            return False  # the engine reads f' as f
        if len(gold.operators) > 1 or {answer_operator, gold_operator} & {"∈", "≈", "≡"}:
            return False
        return any(
            operators == gold.operators and equal_sides(parts, gold.parts, gold_operator, self._symbolic)
            for parts, operators in ways
        )

    def _vectors(self, answer: Node, gold: Node) -> bool | None:
        """Compares sums of unit vectors with each other, or with a point or column; None when there is no such sum."""
        leaves = [node.text if isinstance(node, Leaf) else None for node in (answer, gold)]
        if leaves[0] is None and leaves[1] is None:
            return None
        beside_vector = leaves[0] is None or leaves[1] is None
        left, right = (
            _entries(node) if text is None else components(text, beside_vector)
            for node, text in zip((answer, gold), leaves, strict=True)
        )
        if left is None or right is None or max(len(left), len(right)) > 3:
            return None
        padded = [[*side, *["0"] * (3 - len(side))] for side in (left, right)]
        return all(self.nodes(_node(a), _node(b)) for a, b in zip(*padded, strict=True))

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
        answer, gold = _said_once(answer), _said_once(gold)
        kinds = {answer.kind, gold.kind}
        unordered = kinds <= _UNORDERED
        if len(kinds) == 2 and not unordered and not ("list" in kinds and kinds & _ORDERED):
            return False
        left, right = list(answer.items), list(gold.items)
        if "⦃⦄" in kinds and _sets_among(left) != _sets_among(right):
            return False  # {1, {2}} is not {1, 2}
        names = [[assigned_name(item) for item in side] for side in (left, right)]
        one_name = len({name for side in names for name in side if name}) == 1 or _number_roots(*names)
        if unordered and ("⦃⦄" in kinds or "union" in kinds or one_name or _are_points(left + right)):
            left, right = _distinct(left), _distinct(right)  # a set does not say twice what it holds
        elif unordered and len(_distinct(right)) == len(right) and not any(names[0] + names[1]):
            left = _distinct(left)  # 1, 2, 2, 1 for 1, 2; the two 2 of 2, 2, 3 may both be meant
        if len(left) != len(right) or len(right) > _MAX_ITEMS:
            return False
        named = [all(side) and len(side) > 1 for side in names]
        if all(named) and not one_name:
            return self._matching(left, right)  # the names say what belongs together
        if any(named) and not one_name:
            return self._in_order_of_names(left, right, names, kinds, is_answer_named=named[0])
        left, right = [_value(item) for item in left], [_value(item) for item in right]
        if unordered and (one_name or not any(map(any, names))):
            return self._matching(left, right)
        return all(self.nodes(a, b) for a, b in zip(left, right, strict=True))

    def _in_order_of_names(
        self, left: list[Node], right: list[Node], names: list[list[str]], kinds: set[str], is_answer_named: bool
    ) -> bool:
        """Compares ``x = 1, y = 2`` with values that have no names: a point goes by the alphabet, a list as written."""
        named, bare = (left, right) if is_answer_named else (right, left)
        called = names[0] if is_answer_named else names[1]
        if any(names[1] if is_answer_named else names[0]) or ("⦃⦄" in kinds and not are_roots(called)):
            return False
        if kinds & _ORDERED:
            named = [
                item for _, item in sorted(zip(called, named, strict=True), key=lambda pair: natural_order(pair[0]))
            ]
        values = [_value(item) for item in named]
        pairs = (values, bare) if is_answer_named else (bare, values)
        if are_roots(called) and not kinds & _ORDERED:
            return self._matching(list(pairs[0]), list(pairs[1]))
        return all(self.nodes(a, b) for a, b in zip(*pairs, strict=True))

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


def _single(node: Leaf | Group) -> str | None:
    """The text of a leaf, or of the one element of a set; a set of nothing but the empty set is not empty."""
    if isinstance(node, Group):
        only = node.items[0] if len(node.items) == 1 and node.kind in ("⦃⦄", "[]") else None
        return only.text if isinstance(only, Leaf) and r"\emptyset" not in only.text else None
    return node.text


def _is_interval_for_list(node: Node, other: Node) -> bool:
    """Whether -1 < x < 1 meets the two numbers -1, 1."""
    return (
        isinstance(node, Relation) and node.operators[0] in "<>≤≥" and isinstance(other, Group) and other.kind == "list"
    )


def _spread(node: Node, other: Node) -> Node:
    """``(y, x) = (1, 2)`` as ``y = 1, x = 2`` where the other side gives values to names one by one."""
    if not isinstance(node, Relation) or set(node.operators) != {"="} or not isinstance(other, Group):
        return node
    if len(node.operators) > 1 and other.kind in ("()", "list"):  # x = y = 1
        return Group("list", tuple(Relation((name, node.parts[-1]), ("=",)) for name in node.parts[:-1]))
    if len(other.items) < 2 or not all(map(assigned_name, other.items)):
        return node
    sides = [split_list(part) if unwrap(part.strip(), "(", ")") is not None else [] for part in node.parts]
    if len(sides[0]) < 2 or len(sides[0]) != len(sides[1]):
        return node
    return Group("list", tuple(Relation((name, value), ("=",)) for name, value in zip(*sides, strict=True)))


def _flip(relation: Relation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    turned = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
    return relation.parts[::-1], tuple(turned.get(operator, operator) for operator in relation.operators[::-1])


def _rows(node: Node) -> list[list[Node]] | None:
    if isinstance(node, Matrix):
        return [list(row) for row in node.rows]
    if isinstance(node, Group) and node.kind in ("()", "list"):
        return [list(node.items)]
    return None


def _entries(node: Node) -> list[Node] | None:
    """The entries of a point, or of a matrix of one row or column."""
    rows = _rows(node)
    if rows is None or (isinstance(node, Group) and node.kind == "list"):
        return None
    if len(rows) > 1 and any(len(row) > 1 for row in rows):
        return None
    return [cell for row in rows for cell in row]


def _number_roots(names: list[str], others: list[str]) -> bool:
    """Whether one side numbers the values (x_1, x_2) that the other side gives to x."""
    for numbered, plain in ((names, others), (others, names)):
        if all(numbered) and are_numbered(numbered) and {name for name in plain if name} == {numbered[0][0]}:
            return True
    return False


def _node(entry: Node | str) -> Node:
    return parse(entry) if isinstance(entry, str) else entry


def _distinct(items: list[Node]) -> list[Node]:
    return list(dict.fromkeys(items))


def _said_once(group: Group) -> Group:
    """The set that a list of the same sets is."""
    only = group.items[0] if group.kind == "list" and len(_distinct(list(group.items))) == 1 else None
    return only if isinstance(only, Group) and only.kind == "⦃⦄" else group


def _residue(node: Node) -> tuple[str, Residue] | None:
    """What a residue is said of (empty when it is not said) and the residue."""
    if isinstance(node, Leaf):
        name, value = "", node.text
    elif isinstance(node, Relation) and node.operators in (("≡",), ("=",)) and is_name(node.parts[0]):
        name, value = node.parts
    else:
        return None
    residue = read_residue(value)
    return None if residue is None else (name, residue)


def _sets_among(items: list[Node]) -> int:
    return sum(isinstance(item, Group) and item.kind == "⦃⦄" for item in items)


def _are_points(items: list[Node]) -> bool:
    return all(isinstance(item, Group) and item.kind == "()" for item in items)


def _value(node: Node) -> Node:
    return parse(node.parts[1]) if isinstance(node, Relation) and assigned_name(node) else node
