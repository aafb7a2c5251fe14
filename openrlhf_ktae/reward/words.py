"""Answers in words: names, yes and no, choices, small numbers, and the many ways to say that there is no solution."""

import re

_WORD_CHARACTERS = re.compile(r"[A-Za-z][A-Za-z\s'.,-]*")
_CHOICE = re.compile(r"(?:(?:[Aa]nswer|[Oo]ption|[Cc]hoice)\s*:?\s*)?\(?\s*([A-Z])\s*\)?[.:]?")
_CHOICES = re.compile(r"[A-G]{2,7}|[A-G](?:,+[A-G]){1,6}")
_YES_OR_NO = re.compile(r"(yes|no)\s*[,.;:]\s*\w.*", re.IGNORECASE)
_CHOICE_WITH_VALUE = re.compile(r"‹\s*\(?([A-E])\)?[.:]?\s*›\s*(?P<value>.+)|\(([A-E])\)\s+(?P<other>.+)")

NOTHING = "\\emptyset"
_NOTHING = re.compile(
    r"(?:(?:the )?(?:equation|system|inequality|problem|it) (?:has|have) |there (?:is|are|exists?) |has |have )?"
    r"(?:no|not any) (?:such )?(?:real |integer |positive |rational |natural |valid |possible |other )*"
    r"(?:solutions?|roots?|values?|numbers?|integers?|triples?|pairs?|functions?|polynomials?|triangles?|primes?|[a-z])"
    r"(?: sets?)?(?: (?:exists?|exist|is possible|are possible|satisfy.*|for .*|in .*))?"
    r"|(?:the )?(?:solution set is )?(?:the )?(?:empty|null) set|none|no solution set"
    r"|(?:the )?(?:solution set is )?empty|inconsistent"
)
_NO_LETTER = re.compile(r"no [a-z]")
_SAME_WORDS = {
    "dne": "does not exist", "limit does not exist": "does not exist", "the limit does not exist": "does not exist",
    "doesn't exist": "does not exist", "it does not exist": "does not exist",
    "infinite": "infinitely many", "infinitely many solutions": "infinitely many",
    "an infinite number": "infinitely many", "an infinite number of solutions": "infinitely many",
    "infinite solutions": "infinitely many", "infinite number of solutions": "infinitely many",
    "there are infinitely many solutions": "infinitely many", "infinitely many": "infinitely many",
    "cannot be determined": "not determined", "can not be determined": "not determined",
    "it cannot be determined": "not determined", "no answer can be determined": "not determined",
    "not enough information": "not determined",
}  # fmt: skip
_OPENING = re.compile(
    r"^(?:(?:the|this|that|our|my) )?(?:statement|claim|answer|proposition|assertion|sequence|function|series|triangle|"
    r"number|result|it|winner)(?: [a-z])? (?:is|will be|=) (?:an? |the )?|^(?:on|in|at|the|an?) "
)
_NOUN = re.compile(r" (?:triangle|function|number|sequence|integer|curve|series|quadrilateral)$")
_SMALL = {
    word: number
    for number, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
            *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
        )
    )
}
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100}


def read_words(text: str, is_text: bool) -> str | None:
    """A text answer in one spelling; None for what may be mathematics: short, and neither side is upright text.

    Two answers of different meaning are never brought to one spelling: "no" is not "no solution", and 0 is neither.
    """
    bare = text.replace("‹", " ").replace("›", " ").strip()
    if bare.replace(" ", "") in (NOTHING, "∅"):
        return "nothing"
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
    words = re.sub(r"[\s,]+", " ", inner.lower()).strip(" .")
    if _NOTHING.fullmatch(words) and not (_NO_LETTER.fullmatch(words) and len(words) == 4):
        return "nothing"
    if verdict := _YES_OR_NO.fullmatch(inner):
        return verdict[1].lower()
    words = _OPENING.sub("", words)
    words = re.sub(r"\b(con|di)verg(?:es|ent|e)$", r"\1verges", _SAME_WORDS.get(words, words))
    names = _names(inner)
    return names or re.sub(r"[^a-z]", "", _NOUN.sub("", words))


def read_number_word(text: str) -> int | None:
    """The number that a word is: twelve, forty-two."""
    words = re.sub(r"[‹›.\s-]+", " ", text).strip().lower()
    if words in _SMALL:
        return _SMALL[words]
    tens, _, ones = words.partition(" ")
    if tens in _TENS and (not ones or (0 < _SMALL.get(ones, 0) < 10 and _TENS[tens] < 100)):
        return _TENS[tens] + (_SMALL[ones] if ones else 0)
    return 100 if words in ("one hundred", "a hundred") else None


def read_choices(text: str) -> tuple[frozenset[str], bool] | None:
    """The letters of ``A, C``, ``(A) and (C)`` or ``AC``, and whether they are written as a list; None for others."""
    bare = re.sub(r"[‹›().\s]", "", text.replace("and", ","))
    if not _CHOICES.fullmatch(bare):
        return None
    letters = bare.replace(",", "")
    is_list = "," in bare
    return (frozenset(letters), is_list) if is_list or letters == "".join(sorted(set(letters))) else None


def split_choice(text: str) -> tuple[str, str] | None:
    """The letter and the value of ``(C) 27``; None for anything else."""
    match = _CHOICE_WITH_VALUE.fullmatch(text.strip())
    if match is None:
        return None
    return match[1] or match[3], (match["value"] or match["other"]).strip()


def _names(text: str) -> str | None:
    """Names of people or things joined by "and", whose order does not count."""
    parts = [part for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", text.strip()) if part]
    if len(parts) < 2 or not all(re.fullmatch(r"[A-Z][a-z'-]*(?: [A-Z][a-z'-]*)*", part) for part in parts):
        return None
    return " ".join(sorted(parts)).lower()
