"""Takes apart what an answer says around its value: "the answer is", "for all x", "where k is an integer".

A condition is only taken off where it says nothing (for all x, of a function of x) or introduces a letter of the value
(k is an integer), which is then known to be a parameter; any other condition stays and counts.
"""

import re
from dataclasses import dataclass, field

from openrlhf_ktae.reward.normalize import split_top, unwrap

_LETTER = r"[A-Za-z](?:_\s*(?:\{\s*\w\s*\}|\w))?"
_SET = (
    r"\\?(?:mathbb|mathbf|mathrm)?\s*\{?\s*(?P<set>[ZNRQC])\s*\}?\s*"
    r"(?P<mark>(?:[\^_]\s*\{?\s*(?:[+*\-]|\\ast|\\star|\\geq?\s*0|0|≥\s*0)\s*\}?\s*){0,2})"
)
_KIND = (
    r"(?:(?:an?|any|some|all|every|each|the|arbitrary|real|fixed|of integration)\s+)*"
    r"(?P<kind>(?:positive |non-?negative |natural |whole |nonzero |rational )?"
    r"(?:integers?|constants?|numbers?|reals?|parameters?|arbitrary))"
    r"(?:\s+(?:numbers?|constants?|of integration|parameters?))?"
)
# Each ends a text; upright text and plain words are the same by then. Several letters stand behind a comma, a bracket
# or a word: in "f(x) = x, c ∈ R" the x is the value.
_LETTERS = (
    rf"(?P<letters>(?:(?<=[,;:(])\s*|(?<=where|.with|..for|..and)\s+){_LETTER}(?:\s*(?:,|and)\s*{_LETTER})+"
    rf"|(?<![A-Za-z\\]){_LETTER})"
)
_WORDS = r"(?:(?:where|with|for|and|here|any|all|some|every|each)(?![A-Za-z])\s*)*"
_BY_SET = re.compile(rf"(?:\s*[,;:(]|\s)\s*{_WORDS}{_LETTERS}\s*∈\s*{_SET}\s*\)?$")
_BY_WORDS = re.compile(rf"(?:\s*[,;:(]|\s)\s*{_WORDS}{_LETTERS}\s+(?:is|are|being|-)?\s*{_KIND}\s*\)?$")
_FOR_KIND = re.compile(rf"(?:\s*[,;:(]|\s)\s*(?:where|for|with)\s+{_KIND}\s+{_LETTERS}\s*\)?$")
_FOR_ALL = re.compile(
    r"(?:\s*[,;:(]|\s)\s*(?:(?:for|where)\s+(?:all|any|every|each)\s+|\\forall(?![A-Za-z])\s*)(?:(?:real|positive|integers?|numbers?|natural)\s+)*"
    rf"(?P<letters>{_LETTER}(?:\s*,\s*{_LETTER})*)(?:\s*∈\s*{_SET})?\s*\)?$"
)
_BOUND_WORDS = {
    "at least": "≥", "no less than": "≥", "not less than": "≥", "at most": "≤", "no more than": "≤",
    "not more than": "≤", "more than": ">", "greater than": ">", "less than": "<", "fewer than": "<",
}  # fmt: skip
_BOUND = re.compile(rf"^‹?\s*(?:is\s+)?({'|'.join(_BOUND_WORDS)})\s*›?\s*(?=[\d\\])")
_LEAD = re.compile(
    r"^\s*(?:(?:the\s+)?(?:final\s+)?(?:answers?|values?|solutions?|results?|roots?)\s*(?:is|are|:|=)\s*:?|(?:either|both|only|approximately|about|"
    r"approx\.?|exactly|roughly)\s|(?:so|thus|hence|therefore)\s*,?\s)\s*",
    re.IGNORECASE,
)
_TEXT_LEAD = re.compile(r"^‹[^›]*\b(?:is|are|equals?|be)\s*:?\s*›\s*(?=[^\s‹])|^‹[^›]*[a-z]{3}\s*:\s*›\s*(?=[^\s])")
_TRAILING = re.compile(r"[\s,;]*(?:respectively|in (?:some|any|that) order|as well|too)\s*\)?$")
_BUILDER = re.compile(rf"(?P<letter>{_LETTER}|\([^()]*\))\s*(?:∈\s*{_SET})?\s*(?:\||:)\s*(?P<condition>.+)")
_HINT = re.compile(r"‹|∈|⦃|\b(?:for|where|is|are|both|either|only|answer|about|constant|so|thus)\b", re.IGNORECASE)
_FUNCTION = re.compile(
    r"^\s*(?:[A-Za-z](?:_\w)?\s*\(\s*([A-Za-z](?:\s*,\s*[A-Za-z])*)\s*\)|[A-Za-z]_\{?([a-z])\}?)\s*[=≡]"
)
_MAPS_TO = re.compile(r"^(?:([A-Za-z])\s*:\s*)?([A-Za-z])\s*\\(?:mapsto|to)(?![A-Za-z])\s*(.+)$")
_CONSTANT_WORD = re.compile(r"‹\s*(?:arbitrary\s+)?(?:constant|const\.?)\s*›|(?<=\+)\s*(?:constant|const)\.?(?![a-z])")
_REGIONS = frozenset("RC")


@dataclass(frozen=True)
class Statement:
    """The value that a text states, and the letters in it that stand for any number of a kind."""

    body: str
    parameters: dict[str, str] = field(default_factory=dict)
    """Letter -> ``Z``, ``N`` (natural), ``N+`` (positive), ``N0`` (not negative) or ``R`` (any constant)."""


def read_statement(text: str) -> Statement:
    """Takes a text apart (in the spelling of :func:`openrlhf_ktae.reward.normalize.plain`)."""
    if not _HINT.search(text) and "\\" not in text:
        return Statement(text)
    text = _MAPS_TO.sub(lambda match: f"{match[1] or 'f'}({match[2]})={match[3]}", text)
    if not _HINT.search(text):
        return Statement(text)
    text = _without_lead(_CONSTANT_WORD.sub(" C", text))
    parameters: dict[str, str] = {}
    text = _value(text, parameters)
    for letter in parameters:  # the same condition once more, behind another member of a list
        text = re.sub(rf"[\s,;(]+{re.escape(letter)}\s*∈\s*{_SET}\s*\)?(?=\s*(?:[,;‹]|or|and))", " ", text)
    inner = unwrap(text, "⦃", "⦄")
    if inner is not None and (match := _BUILDER.fullmatch(inner.strip())) and match["set"] in (None, "R"):
        text = _value(match["condition"], parameters)
    elif inner is not None and re.search("[|:]", inner):  # {2k : k ∈ Z}
        introduced: dict[str, str] = {}
        body = _value(re.sub("[|:]", ",", inner, count=1), introduced)
        if introduced:
            text = body
            parameters.update(introduced)
    return Statement(text, parameters)


def symbols(text: str) -> list[str]:
    """The letters of a text with their subscripts, in order of appearance; e, i and what commands are called aside."""
    found = dict.fromkeys(re.sub(r"[\s{}]", "", match) for match in _SYMBOL.findall(_COMMAND.sub(" ", text)))
    return [symbol for symbol in found if symbol not in ("e", "i")]


_SYMBOL = re.compile(r"[A-Za-z](?:\s*_\s*(?:\{\s*\w{1,3}\s*\}|\w))?")
_COMMAND = re.compile(r"\\[A-Za-z]+|‹[^›]*›")


def _without_lead(text: str) -> str:
    """Without an opening such as "The answer is" before a value."""
    if unwrap(text, "‹", "›") is not None and text.count("‹") == 1 and any(character.isdigit() for character in text):
        text = text[1:-1].strip()
    text = _BOUND.sub(lambda match: _BOUND_WORDS[match[1]], text)
    match = _TEXT_LEAD.match(text)
    if match and "if" not in match.group():
        text = text[match.end() :]
    words = text.replace("‹", " ").replace("›", " ")
    match = _LEAD.match(words)
    # The opening has to end outside of upright text.
    if match and match.end() < len(text) and text[: match.end()].count("‹") == text[: match.end()].count("›"):
        text = text[match.end() :].strip()
    return text


def _value(text: str, parameters: dict[str, str]) -> str:
    """The text without the conditions at its end; the letters they introduce are added to ``parameters``."""
    for _ in range(3):
        words = text.replace("‹", " ").replace("›", " ")
        for pattern in (_TRAILING, _FOR_ALL, _BY_SET, _BY_WORDS, _FOR_KIND):
            match = pattern.search(words)
            if match and match.start() and _is_outside(text, match.start()):
                rest = _take_off(text[: match.start()], match, pattern, parameters)
                if rest is not None:
                    text = rest
                    break
        else:
            return text
    return text


def _is_outside(text: str, position: int) -> bool:
    before = text[:position]
    return all(before.count(opening) == before.count(closing) for opening, closing in ("‹›", "⦃⦄", "{}"))


def _take_off(before: str, match: re.Match[str], pattern: re.Pattern[str], parameters: dict[str, str]) -> str | None:
    """What stands before a condition; None when the condition counts."""
    before = before.strip(" ,;‹")
    if pattern is _TRAILING:
        return before
    letters = re.findall(_LETTER, match["letters"].replace("and", " "))
    letters = [re.sub(r"[\s{}]", "", letter) for letter in letters]
    function = _FUNCTION.match(before)
    arguments = set(re.findall("[A-Za-z]", (function[1] or function[2]) if function else ""))
    if set(letters) <= arguments:
        return before
    if pattern is _FOR_ALL and match["set"] is None:
        return None
    domain = _domain(match)
    if domain is None or set(letters) & arguments or not set(letters) <= set(symbols(before)):
        return None
    parameters.update(dict.fromkeys(letters, domain))
    return before


def _domain(match: re.Match[str]) -> str | None:
    groups = match.groupdict()
    if groups.get("set"):
        mark = re.sub(r"[\s{}]", "", groups["mark"] or "")
        if groups["set"] in _REGIONS:
            return "R" if not mark else None
        if groups["set"] == "Q":
            return None
        if not mark:
            return groups["set"]
        if "0" in mark or "geq" in mark:
            return "N0"
        return "N+" if "-" not in mark else None
    kind = groups["kind"].rstrip("s")
    if kind == "integer":
        return "Z"
    if kind.startswith("positive"):
        return "N+" if "integer" in kind else None
    if kind.startswith("non"):
        return "N0" if "integer" in kind else None
    if kind.startswith("natural"):
        return "N"
    if kind.startswith(("whole", "rational")):
        return None
    return "R"


def top_terms(text: str) -> list[str]:
    """The terms of a sum, without their signs."""
    terms, _ = split_top(text, re.compile("[+-]"))
    return [term.strip() for term in terms if term.strip()]
