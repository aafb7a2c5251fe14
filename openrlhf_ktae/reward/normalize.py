r"""One spelling for the many ways to write the same mathematics. Nothing here decides what is equal.

The result is LaTeX without decoration, with single characters for what has structure: ``⦃ ⦄`` for set braces, ``‹ ›``
around upright text (``\text{cm}``), ``⏎`` for the end of a row, and ``≤ ≥ ≠ ≈ ∈ ∪ ± ∓ °``.
"""

import re
from collections.abc import Callable

_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
        "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "′": "'", "’": "'",
        "“": '"', "”": '"', "，": ",", "（": "(", "）": ")", "；": ";", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
        "¼": r"\frac{1}{4}", "½": r"\frac{1}{2}", "¾": r"\frac{3}{4}", "θ": r"\theta ", "α": r"\alpha ",
        "β": r"\beta ", "λ": r"\lambda ", "ω": r"\omega ", "φ": r"\phi ", "⩽": "≤", "⩾": "≥", "º": "°", "\0": " ",
        "‹": "<", "›": ">", "⦃": "{", "⦄": "}", "⏎": " ",
    }
)  # fmt: skip
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
_SUPERSCRIPT_RUN = re.compile(f"[{_SUPERSCRIPTS}]+")
_SUPERSCRIPT_VALUES = str.maketrans(_SUPERSCRIPTS, "0123456789+-")

_FUNCTIONS = "sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|arcsin|arccos|arctan|log|ln|exp|sqrt|pi|infty"

_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\\", "⏎"),  # before all else: in "\\\\ 3" the second backslash is no command
        # Thousands separators that can be nothing else: 1,\!000  1{,}000  1\,000
        (r"(?<=\d)\s*,\s*\\!\s*(?=\d{3})", ""),
        (r"(?<=\d)\{,\}\s*(?=\d{3})", ""),
        (r"(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))", ""),
        (r"\\\$|(?<![A-Za-z])\\dollar(?![A-Za-z])", " ‹dollar› "),
        (r"\\[()\[\]]|\$", " "),
        (r"\\\{|\\lbrace(?![A-Za-z])|\\left\s*\\\{", "⦃"),
        (r"\\\}|\\rbrace(?![A-Za-z])", "⦄"),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?", ""),
        (r"\\[dtc]frac(?![A-Za-z])|\\(?:nice|s)frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|quad|qquad|thinspace|hfill|space)(?![A-Za-z])", " "),
        (r"\\!", ""),
        (r"\\[,;:> ]|~", " "),
        (r"\\(?:mathrm|text|mathit)\s*\{\s*([eid])\s*\}", r"\1"),
        (r"\\(?:mathbf|boldsymbol|mathit|bm|vec|mathsf|textit|emph)\s*\{([^{}]{0,200})\}", r"\1"),
        (r"\\(?:text|textbf|textrm|textsf|mathrm|mbox|hbox|operatorname|rm)\s*\{([^{}]{0,400})\}", r"‹\1›"),
        (r"\s*(?:\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z])|°)", "° "),
        (r"°\s*(?:‹\s*C\s*›|C(?![A-Za-z]))", "‹celsius›"),
        (r"°\s*(?:‹\s*F\s*›|F(?![A-Za-z]))", "‹fahrenheit›"),
        (r"‹\s*a(?:rc)?(sin|cos|tan)\s*›|(?<![\\A-Za-z])a(sin|cos|tan)(?=\s*[({])", r"\\arc\1\2 "),
        (rf"‹\s*({_FUNCTIONS})\s*›", r"\\\1 "),
        (r"\\hbar(?![A-Za-z])", "h_{0} "),  # unknown to the parser
        (r"\\%|(?<=\d)\s*‹\s*%\s*›|(?<=\d)\s*‹?\s*percent(?![a-z])\s*›?", "% "),
        (r"\\(?:leq?|leqslant|leqq)(?![A-Za-z])|<=|=<", "≤"),
        (r"\\(?:geq?|geqslant|geqq)(?![A-Za-z])|>=", "≥"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\neq?(?![A-Za-z])|!=", "≠"),
        (r"\\(?:approx|simeq)(?![A-Za-z])", "≈"),
        (r"\\in(?![A-Za-z])", "∈"),
        (r"\\cup(?![A-Za-z])", "∪"),
        (r"\\pm(?![A-Za-z])|\+/-", "±"),
        (r"\\mp(?![A-Za-z])", "∓"),
        (r"\\ast(?![A-Za-z])", "*"),
        (r"\\varnothing(?![A-Za-z])|⦃\s*⦄", r"\\emptyset "),
        (r"\^\s*\{\s*((?:\\prime\s*)+)\}|\^\s*\\prime(?![A-Za-z])", lambda match: "'" * match.group().count("prime")),
        (r"\*\*", "^"),
        (r"(?i)(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        (rf"(?<![\\A-Za-z‹])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        (r"\\(sqrt|frac)\s+(?=[\[{(\d])", r"\\\1"),
        (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac(\d)(?=\{)", r"\\frac{\1}"),
        (r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt(\d)", r"\\sqrt{\1}"),
        (r"\s+", " "),
    )
)

_OPENING, _CLOSING = "([{⦃", ")]}⦄"


def plain(text: str) -> str:
    """The text in one spelling, without what does not change its meaning."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run.group().translate(_SUPERSCRIPT_VALUES)}}}", text)
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = text.strip().rstrip(".,;:").strip().lstrip(",;:").strip()
    while True:
        inner = unwrap(text, "{", "}")
        for command in (r"\boxed", r"\fbox"):
            if text.startswith(command):
                inner = unwrap(text[len(command) :].strip(), "{", "}")
        if inner is None:
            return text
        text = inner.strip()


def unwrap(text: str, opening: str, closing: str) -> str | None:
    """What stands inside when the whole text is one pair of these brackets, else None."""
    if len(text) < 2 or text[0] not in opening or text[-1] not in closing:
        return None
    depth = 0
    for position, character in enumerate(text):
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
            if depth == 0 and position < len(text) - 1:
                return None
    return text[1:-1] if depth == 0 else None


def split_top(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Splits where ``separator`` matches outside of all brackets. Returns the parts and the separators between them."""
    parts, found, depth, start, position = [], [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif depth == 0 and (match := separator.match(text, position)) and match.end() > position:
            parts.append(text[start:position].strip())
            found.append(match.group().strip())
            start = position = match.end()
            continue
        position += 1
    parts.append(text[start:].strip())
    return parts, found
