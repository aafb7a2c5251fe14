"""What the references of a training set are, and which of them the grader cannot read.

A reference that cannot be read is only equalled by the same text: on such a problem every other right answer is
rewarded as a wrong one. The check reads each reference as a comparison would, expressions with the symbolic engine in
the grader's workers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from openrlhf_ktae.reward.grading import Grader
from openrlhf_ktae.reward.limits import MAX_LENGTH, Refused, check_limits
from openrlhf_ktae.reward.normalize import latex, plain
from openrlhf_ktae.reward.numbers import read_number
from openrlhf_ktae.reward.parse import Group, Leaf, Matrix, Node, Relation, parse
from openrlhf_ktae.reward.quantity import read_quantity
from openrlhf_ktae.reward.ratios import read_ratio
from openrlhf_ktae.reward.residues import read_residue
from openrlhf_ktae.reward.statement import read_statement
from openrlhf_ktae.reward.vectors import components
from openrlhf_ktae.reward.words import read_words, split_choice

MOST_WORDS = 8
"""Words that an answer may have; the same in a longer text is not said twice in the same words."""

_PLACEHOLDERS = frozenset(
    (
        "proof",
        "see proof",
        "see solution",
        "see the solution",
        "solution",
        "notfound",
        "not found",
        "na",
        "n/a",
        "none given",
    )
)
_BRACKETS = {"()": "point or interval", "[]": "point or interval", "(]": "interval", "[)": "interval", "⦃⦄": "set"}
_GROUPS = {"list": "list", "union": "union or alternatives", "minus": "set", "meet": "set", "cases": "cases"}


@dataclass
class Survey:
    """How many references there are of each kind, and those that cannot be read."""

    kinds: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> references, in their order."""

    @property
    def total(self) -> int:
        """References that were looked at."""
        return self.kinds.total()

    @property
    def unread(self) -> int:
        """References that cannot be read."""
        return sum(len(references) for references in self.unreadable.values())


def survey(references: Iterable[str], grader: Grader) -> Survey:
    """Sorts references by what they are, and finds those the grader cannot read."""
    found = Survey()
    seen: list[tuple[str, str | None, list[str]]] = []
    for reference in references:
        kind, why, expressions = describe(reference)
        found.kinds[kind] += 1
        seen.append((reference, why, expressions))
    wanted = list(dict.fromkeys(text for _, why, texts in seen if why is None for text in texts))
    # What is read equals itself in a form that only the engine can tell.
    verdicts = grader.grade_many([(f"<answer>{text}+\\ln 1</answer>", text) for text in wanted], "tags")
    reasons = {text: verdict.reason for text, verdict in zip(wanted, verdicts, strict=True) if not verdict.correct}
    for reference, why, expressions in seen:
        failed = next((reasons[text] for text in expressions if text in reasons), None)
        if why is None and failed is not None:
            why = "not readable as mathematics" if failed == "different" else failed
        if why is not None:
            found.unreadable.setdefault(why, []).append(reference)
    return found


def describe(reference: str) -> tuple[str, str | None, list[str]]:
    """The kind of a reference, why it cannot be read (None: it can), and the expressions the engine has to read."""
    if len(reference) > MAX_LENGTH:
        return "text", f"longer than {MAX_LENGTH} characters", []
    text = plain(reference)
    if not text:
        return "empty", "empty", []
    if " ".join(text.strip("‹› .").lower().split()) in _PLACEHOLDERS:
        return "prose", "a placeholder, no answer", []
    if split_choice(text):
        return "choice with its value", None, []
    node = parse(read_statement(text).body)
    leaves = list(_leaves(node))
    expressions = []
    for leaf in leaves:
        kind = _leaf_kind(leaf)
        if kind == "prose":
            return "prose", f"more than {MOST_WORDS} words", []
        if kind == "expression":
            try:
                check_limits(leaf)
            except Refused as error:
                return _kind(node), f"refused: {error}", []
            expressions.append(latex(read_quantity(leaf).body))
    return _kind(node), None, expressions


def _kind(node: Node) -> str:
    if isinstance(node, Leaf):
        return _leaf_kind(node.text)
    if isinstance(node, Matrix):
        return "matrix"
    if isinstance(node, Group):
        if node.kind == "list" and all(isinstance(item, Relation | Group) for item in node.items):
            return "system or list of points"
        return _BRACKETS.get(node.kind) or _GROUPS.get(node.kind, "list")
    return "equation or named value" if set(node.operators) == {"="} else "inequality or condition"


def _leaf_kind(text: str) -> str:
    quantity = read_quantity(text)
    if read_number(quantity.body) is not None:
        return "number with a unit" if quantity.unit.name or quantity.is_percent else "number"
    if read_words(text, "‹" in text) is not None:
        return "words" if len(text.split()) <= MOST_WORDS else "prose"
    if read_ratio(text) is not None:
        return "ratio"
    if read_residue(text) is not None:
        return "residue"
    if components(text) is not None:
        return "vector"
    return "prose" if sum(len(word) > 3 and word.isalpha() for word in text.split()) > MOST_WORDS else "expression"


def _leaves(node: Node) -> Iterable[str]:
    """The texts without structure that a comparison would come to."""
    if isinstance(node, Leaf):
        yield node.text
    elif isinstance(node, Relation):
        # A name on the left need not be mathematics: "The area = 5".
        for part in node.parts if len(node.operators) > 1 else node.parts[1:]:
            yield from _leaves(parse(part)) if part else ()
    else:
        rows = node.rows if isinstance(node, Matrix) else (node.items,)
        for row in rows:
            for item in row:
                yield from _leaves(item)
