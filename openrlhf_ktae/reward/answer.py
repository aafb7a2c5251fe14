"""Finds the final answer in a response, in time linear in its length whatever it holds."""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

AnswerStyle = Literal["boxed", "tags", "hash", "auto"]
STYLES: tuple[AnswerStyle, ...] = ("boxed", "tags", "hash", "auto")

# One pass over the text: an escaped character is skipped, so \{ and \\ never open or close a group.
_BOX_TOKENS = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(\{)?|\\.|[{}]", re.DOTALL)
# What may stand between boxes that are one answer; on one line, or with a comma, "and" or "or".
_BETWEEN_BOXES = re.compile(
    r"\}(?:[\s$,;]|\\[,;:! ()\[\]]|\\q?quad(?![A-Za-z])|(?:and|or)(?![A-Za-z])"
    r"|\\(?:text|mathrm)\s*\{[\s,]*(?:and|or)\s*\})*$"
)
_JOINS = re.compile(r"[,;]|and|or")
_LONGEST_SEPARATOR, _MOST_BOXES = 60, 24
_UNBRACED = re.compile(r"(?:(?!\\[)\]])[^\n$]){1,200}")
_SPECIAL_TOKEN = re.compile(r"<(?:[|｜][^|｜<>]{1,48}[|｜]|/?s|eos|pad|bos|unk|mask|eot|end_of_turn)>")
_UNBRACED_TRIED = 16  # of the last \boxed without a brace; more are no answer but a loop
_LONGEST_SPECIAL_TOKEN = 64


@dataclass(frozen=True)
class FinalAnswer:
    """What a response gives as its answer."""

    text: str
    """The answer as it is written; empty when there is none."""
    formatted: bool
    """Whether an answer stands where the style wants it."""


NO_ANSWER = FinalAnswer("", False)


def find_answer(response: str, style: AnswerStyle = "boxed") -> FinalAnswer:
    r"""The final answer of a response.

    Args:
        response: the response's text; special tokens at its end are ignored.
        style: ``boxed``: the last ``\boxed{...}`` or ``\fbox{...}`` with balanced braces (``\boxed 5`` counts too),
            as a list with those that stand right before it (``\boxed{1}`` and ``\boxed{2}``);
            ``tags``: after the last ``<answer>``, up to ``</answer>`` or the end, its boxed part if there is one;
            ``hash``: what follows the last ``#`` on its line (``#### 42``); ``auto``: the first of boxed, tags and
            ``####`` that is there.

    Raises:
        ValueError: unknown style.
    """
    text = strip_special_tokens(response)
    if style == "boxed":
        found = _last_boxed(text)
    elif style == "tags":
        found = _last_tagged(text)
    elif style == "hash":
        found = _after_hash(text, "#")
    elif style == "auto":
        found = _last_boxed(text) or _last_tagged(text) or _after_hash(text, "####")
    else:
        raise ValueError(f"answer_style: got {style!r}, expected one of {', '.join(STYLES)}")
    return FinalAnswer(found, True) if found else NO_ANSWER


def strip_special_tokens(text: str) -> str:
    """The text without the special tokens (``<eos>``, ``<|im_end|>``, ``</s>``, ...) and the spaces at its end."""
    end = len(text.rstrip())
    while end and text[end - 1] == ">":
        start = text.rfind("<", max(0, end - _LONGEST_SPECIAL_TOKEN), end)
        if start < 0 or not _SPECIAL_TOKEN.fullmatch(text, start, end):
            break
        end = start
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


@dataclass(frozen=True)
class _Box:
    """A closed box: where its command stands, and its content."""

    command: int
    start: int
    end: int


def _last_boxed(text: str) -> str:
    """Content of the last box that is closed and not empty, with those right before it; empty when there is none."""
    open_groups: list[tuple[int, int]] = []  # where the command of a box and its content start, or -1 for others
    closed: deque[_Box] = deque(maxlen=_MOST_BOXES)
    last: _Box | None = None  # the one that starts last; of nested ones the inner one
    unbraced: deque[int] = deque(maxlen=_UNBRACED_TRIED)
    for token in _BOX_TOKENS.finditer(text):
        piece = token.group()
        if piece == "{":
            open_groups.append((-1, -1))
        elif piece == "}":
            command, start = open_groups.pop() if open_groups else (-1, -1)
            # A box around the last one starts before it, and is no other answer.
            if start > (last.start if last else -1) and text[start : token.start()].strip():
                last = _Box(command, start, token.start())
                closed.append(last)
        elif token.group(1):
            open_groups.append((token.start(), token.end()))
        elif piece.startswith(("\\boxed", "\\fbox")):
            unbraced.append(token.end())
    later = (_unbraced(text, start) for start in reversed(unbraced) if last is None or start > last.start)
    return next(filter(None, later), "") or _joined(text, last, closed)


def _joined(text: str, last: _Box | None, closed: Iterable[_Box]) -> str:
    """The last box; as a list with those before it where nothing but commas and "and" stands between them."""
    if last is None:
        return ""
    by_end = {box.end: box for box in closed}
    contents, box = [], last
    while True:
        contents.append(text[box.start : box.end].strip())
        between = _BETWEEN_BOXES.search(text, max(0, box.command - _LONGEST_SEPARATOR), box.command)
        before = by_end.get(between.start()) if between else None
        if between is None or before is None or ("\n" in between.group() and not _JOINS.search(between.group())):
            return ", ".join(dict.fromkeys(reversed(contents)))  # the same box twice is one answer
        box = before


def _unbraced(text: str, start: int) -> str:
    """The content of ``\\boxed 5``: up to the end of the formula, or one word outside of a formula."""
    rest = _UNBRACED.match(text, start)
    if rest is None:
        return ""
    if text.startswith(("$", "\\)", "\\]"), rest.end()):
        return rest.group().strip()
    words = rest.group().split(maxsplit=1)
    return words[0].rstrip(".,;:!") if words else ""


def _last_tagged(text: str) -> str:
    start = text.rfind("<answer>")
    if start < 0:
        return ""
    start += len("<answer>")
    end = text.find("</answer>", start)
    content = text[start : end if end >= 0 else len(text)].strip()
    return _last_boxed(content) or strip_special_tokens(content)


def _after_hash(text: str, mark: str) -> str:
    start = text.rfind(mark)
    if start < 0:
        return ""
    line = text[start + len(mark) :].lstrip().split("\n", 1)[0]
    return strip_special_tokens(line)
