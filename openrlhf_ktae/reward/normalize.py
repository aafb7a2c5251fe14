r"""One spelling for the many ways to write the same mathematics. Nothing here decides what is equal.

The result is LaTeX without decoration, with single characters for what has structure: ``⦃ ⦄`` for set braces, ``‹ ›``
around upright text (``\text{cm}``), ``⟦ ⟧`` around the rows of a system, ``⏎`` for the end of a row, ``⒤ ⒥ ⒦`` for the
unit vectors, ``…`` for digits that go on, and ``≤ ≥ ≠ ≈ ≡ ∈ ∪ ∩ ∖ ± ∓ °``. :func:`latex` gives it back as LaTeX.
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
        "‹": "<", "›": ">", "⦃": "{", "⦄": "}", "⏎": " ", "⟦": "(", "⟧": ")", "⒤": "i", "⒥": "j", "⒦": "k",
        "∶": ":", "：": ":", "⟨": "(", "⟩": ")", "∣": "|", "€": " ‹euro› ", "£": " ‹gbp› ", "¥": " ‹yuan› ",
        "₹": " ‹rupee› ",
    }
)  # fmt: skip
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
_SUPERSCRIPT_RUN = re.compile(f"[{_SUPERSCRIPTS}]+")
_SUPERSCRIPT_VALUES = str.maketrans(_SUPERSCRIPTS, "0123456789+-")

_UPRIGHT = "text|textbf|textrm|textsf|textnormal|textup|textmd|textsc|texttt|mathrm|mbox|hbox|operatorname|rm"
_WORD_START = r"(?=\s*(?:[^a-z\s]|[a-z](?![a-z])))"
_END = r"(?=\s*(?:[,;)%$]|\\[)%]|$))"
_ROWS = r"[dr]?cases|aligned|align\*?|gathered|split"
_UNIT_VECTOR = (
    r"\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow|widehat)\s*(?P<outer>\{)?\s*"
    r"(?:\\(?:mathbf|boldsymbol|bm)\s*(?P<inner>\{)\s*)?(?:\\(?P<dotless>[ijk])math|(?P<letter>[ijk]))(?![A-Za-z])\s*"
    r"(?(inner)\}\s*)(?(outer)\})"
)
_COUNT = r"(?:\{\s*(\d{1,3})\s*\}|(\d{1,3}))"
_TANGENT = "(?:arc)?c?tg"
_FUNCTIONS = "sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|arcsin|arccos|arctan|log|ln|exp|sqrt|pi|infty"


def _tangent(match: re.Match[str]) -> str:
    name = match.group()
    return ("\\arc" if "arc" in name else "\\") + ("cot " if "ctg" in name.replace("arc", "") else "tan ")


def _counted(match: re.Match[str]) -> str:
    """A number of choices, or of arrangements; one beyond its limits stays as it is written."""
    total, chosen = int(match[2] or match[3]), int(match[4] or match[5])
    if not 0 < chosen <= total or total < 3:
        return match.group()
    return rf"\binom{{{total}}}{{{chosen}}}" if match["kind"] == "C" else rf"\frac{{{total}!}}{{{total - chosen}!}}"


# Each rule stands behind a text without which it cannot match: most rules cost most answers a search for a character.
_RULES: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (needed, re.compile(pattern), replacement)
    for needed, pattern, replacement in (
        ("\\\\", r"\\\\", "⏎"),  # before all else: in "\\\\ 3" the second backslash is no command
        # Thousands separators that can be nothing else: 1,\!000  1{,}000  1\,000
        ("\\!", r"(?<=\d)\s*,\s*\\!\s*(?=\d{3})", ""),
        ("{,}", r"(?<=\d)\{,\}\s*(?=\d{3})", ""),
        ("\\", r"(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))", ""),
        ("\\", r"\\\$|(?<![A-Za-z])\\dollar(?![A-Za-z])", " ‹dollar› "),
        ("dots", rf"(?<=\d)\s*\\[lc]?dots(?![A-Za-z]){_END}", "…"),
        ("...", rf"(?<=\d)\s*\.{{3}}{_END}", "…"),
        # A brace on the left alone, before an array, is a system of equations.
        (
            "\\left",
            rf"\\left\s*\\\{{\s*\\begin\s*\{{(?:array|{_ROWS})\}}(?:\s*\{{[lcr|\s]*\}})?((?:(?!\\begin).)*?)"
            rf"\\end\s*\{{(?:array|{_ROWS})\}}(?:\s*\\right\s*\.)?(?!\s*\\right\s*\\\}})",
            r"⟦\1⟧",
        ),
        ("⟧", r"⟧(?:\s|\$|\\quad|\\right\s*\.)*⟦", "⟧ ‹or› ⟦"),  # solutions of a system, side by side
        ("\\begin", rf"\\begin\s*\{{(?:{_ROWS})\}}", "⟦"),
        ("\\end", rf"\\end\s*\{{(?:{_ROWS})\}}", "⟧"),
        ("\\", _UNIT_VECTOR, lambda match: "⒤⒥⒦"["ijk".index(match["dotless"] or match["letter"])]),
        ("\\", r"\\[lr]?vert(?![A-Za-z])|\\mid(?![A-Za-z])", "|"),
        ("angle", r"\\[lr]angle(?![A-Za-z])", lambda match: "(" if match.group()[1] == "l" else ")"),
        ("\\", r"\\colon(?![A-Za-z])|\\math(?:punct|rel|bin)\s*\{\s*:\s*\}", ":"),
        ("\\", r"\\[()\[\]]", " "),
        ("$", r"\$", " "),
        ("\\", r"\\\{|\\lbrace(?![A-Za-z])|\\left\s*\\\{", "⦃"),
        ("\\", r"\\\}|\\rbrace(?![A-Za-z])", "⦄"),
        ("\\", r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?", ""),
        ("frac", r"\\[dtc]frac(?![A-Za-z])|\\(?:nice|s)frac(?![A-Za-z])", r"\\frac"),
        (
            "\\",
            r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|quad|qquad|thinspace|hfill|space)(?![A-Za-z])",
            " ",
        ),
        ("\\!", r"\\!", ""),
        ("\\", r"\\[,;:> ]", " "),
        ("~", "~", " "),
        ("\\", r"\\(?:mathrm|text|mathit)\s*\{\s*([eid])\s*\}", r"\1"),
        ("\\", r"\\(?:mathbf|boldsymbol|mathit|bm|vec|mathsf|textit|emph)\s*\{([^{}]{0,200})\}", r" \1"),
        ("\\", r"\\(?:overrightarrow|vec)\s*(?:\{\s*([a-z])\s*\}|([a-z])(?![A-Za-z]))", r" \1\2"),
        ("\\", rf"\\(?:{_UPRIGHT})\s*\{{((?:[^{{}}]|\{{[^{{}}]*\}}){{0,400}})\}}", r"‹\1›"),
        ("‹", r"‹\s*([,;])\s*›", r"\1 "),
        ("Rs", r"‹\s*Rs\.?\s*›|(?<![A-Za-z])Rs\.?(?=\s*\d)", "‹rupee›"),
        ("\\", r"\s*(?:\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z]))", "° "),
        ("°", r"\s*°\s?", "° "),
        ("°", r"°\s*(?:‹\s*C\s*›|C(?![A-Za-z]))", "‹celsius›"),
        ("°", r"°\s*(?:‹\s*F\s*›|F(?![A-Za-z]))", "‹fahrenheit›"),
        ("sec", r"(?<=\d)\s*‹?\s*secs?\.?\s*›?(?=\s*(?:$|[,;)‹]))", "‹second›"),  # 5 sec is no secant
        ("a", r"‹\s*a(?:rc)?(sin|cos|tan)\s*›|(?<![\\A-Za-z])a(sin|cos|tan)(?=\s*[({])", r"\\arc\1\2 "),
        ("‹", rf"‹\s*({_FUNCTIONS})\s*›", r"\\\1 "),
        # As Russian and Chinese books write them: tg, arcctg, lg, C_{10}^{3}, A_5^2.
        ("tg", rf"‹\s*{_TANGENT}\s*›|(?<![A-Za-z])\\?{_TANGENT}(?![A-Za-z])", _tangent),
        ("lg", r"‹\s*lg\s*›|(?<![A-Za-z])\\?lg(?![A-Za-z])", r"\\log_{10} "),
        ("_", rf"(?<![A-Za-z\\])(?P<kind>[CA])\s*_\s*{_COUNT}\s*\^\s*{_COUNT}", _counted),
        ("\\binom", r"(\\binom\{[^{}]*\}\{[^{}]*\})\s*(?=\\binom)", r"\1 \\cdot "),  # the parser needs the sign
        ("\\hbar", r"\\hbar(?![A-Za-z])", "h_{0} "),  # unknown to the parser
        ("%", r"\\%|(?<=\d)\s*‹\s*%\s*›", "% "),
        ("pct", r"(?<=\d)\s*‹?\s*pct(?![a-z])\s*›?", "% "),
        ("percent", r"(?<=\d)\s*‹?\s*percent(?:age)?(?![a-z])\s*›?", "% "),
        ("\\", r"\\(?:leq?|leqslant|leqq)(?![A-Za-z])", "≤"),
        ("<", r"<=|=<", "≤"),
        ("\\", r"\\(?:geq?|geqslant|geqq)(?![A-Za-z])", "≥"),
        (">=", ">=", "≥"),
        ("\\lt", r"\\lt(?![A-Za-z])", "<"),
        ("\\gt", r"\\gt(?![A-Za-z])", ">"),
        ("\\ne", r"\\neq?(?![A-Za-z])", "≠"),
        ("!=", r"!=", "≠"),
        ("\\", r"\\(?:approx|simeq)(?![A-Za-z])", "≈"),
        ("\\in", r"\\in(?![A-Za-z])", "∈"),
        ("∈", r"(?<=∈)\s*([RZNQ])(?![A-Za-z])", r"\\mathbb{\1}"),
        ("\\cup", r"\\cup(?![A-Za-z])", "∪"),
        ("\\cap", r"\\cap(?![A-Za-z])", "∩"),
        ("\\", r"\\(?:setminus|backslash)(?![A-Za-z])", "∖"),
        ("\\equiv", r"\\equiv(?![A-Za-z])", "≡"),
        ("\\pm", r"\\pm(?![A-Za-z])", "±"),
        ("+/-", r"\+/-", "±"),
        ("\\mp", r"\\mp(?![A-Za-z])", "∓"),
        ("\\ast", r"\\ast(?![A-Za-z])", "*"),
        ("\\var", r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
        ("⦃", r"⦃\s*⦄", r"\\emptyset "),
        (
            "\\prime",
            r"\^\s*\{\s*((?:\\prime\s*)+)\}|\^\s*\\prime(?![A-Za-z])",
            lambda match: "'" * match.group().count("prime"),
        ),
        ("**", r"\*\*", "^"),
        ("", r"(?i)(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        ("", rf"(?<![\\A-Za-z‹])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        ("\\", r"\\(sqrt|frac)\s+(?=[\[{(\d])", r"\\\1"),
        ("\\frac", r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
        ("\\frac", r"\\frac(\d)(?=\{)", r"\\frac{\1}"),
        ("\\frac", r"(\\frac\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        ("\\sqrt", r"\\sqrt\(([^()]*)\)", r"\\sqrt{\1}"),
        ("\\sqrt", r"\\sqrt(\d)", r"\\sqrt{\1}"),
        ("\\frac", r"(?<=\d)\s*\{\s*(\\frac\{\d+\}\{\d+\})\s*\}", r"\1"),
        ("/", r"(?<=\d)\s*‹?\s*and\s*›?\s*(\d+\s*/\s*\d+)(?=\s*[A-Za-z‹])", r" \1"),
        ("^", r"(\([^()]*,[^()]*\))\s*\^\s*\{?\s*(?:T(?![A-Za-z])|\\top(?![A-Za-z])|\\intercal)\s*\}?", r"\1"),
        ("}{‹", r"\\frac\s*\{\s*(‹[^‹›]*›)\s*\}\s*\{\s*(‹[^‹›]*›(?:\^\s*\{?\d\}?)?)\s*\}", r"\1/\2"),  # km over h
        ("and", r"(?<=[\d}])\s*‹\s*([a-z ]{1,40}?)\s+and\s*›(?=\s*[\d\\])", r" ‹\1› and "),  # 12 boys and 15 girls
        # ]1,2[ is (1,2) in French.
        ("]", r"(?:^\s*|(?<=[∪∈=])|(?<=[∪∈=] ))\](?=[^][()]{1,80}[,;][^][()]{1,80}[][])", "("),
        ("[", r"(?<=\w|\})\s*\[(?=\s*(?:∪|$))", ")"),
        ("or", rf"(?<=[\d)\]}}⦄])\s*or{_WORD_START}", " or "),
        ("and", rf"(?<=[\d)\]}}⦄])\s*and{_WORD_START}", " and "),
        ("", r"\s+", " "),
    )
)

_OPENING, _CLOSING = "([{⦃⟦‹", ")]}⦄⟧›"
_LATEX = {
    "‹": r"\mathrm{", "›": "}", "⦃": r"\{", "⦄": r"\}", "⏎": r"\\", "⟦": r"\begin{cases}", "⟧": r"\end{cases}",
    "⒤": "i", "⒥": "j", "⒦": "k", "…": r"\ldots ", "≡": r"\equiv ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ",
}  # fmt: skip
_LATEX_TABLE = str.maketrans(_LATEX)


def plain(text: str) -> str:
    """The text in one spelling, without what does not change its meaning."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run.group().translate(_SUPERSCRIPT_VALUES)}}}", text)
    text = text.translate(_CHARACTERS)
    for needed, pattern, replacement in _RULES:
        if needed in text:
            text = pattern.sub(replacement, text)
    text = text.strip().rstrip(".,;:").strip().lstrip(",;:≈").strip()
    while True:
        inner = unwrap(text, "{", "}")
        for command in (r"\boxed", r"\fbox"):
            if text.startswith(command):
                inner = unwrap(text[len(command) :].strip(), "{", "}")
        if inner is None:
            return text
        text = inner.strip()


def latex(text: str) -> str:
    """A text in the spelling of :func:`plain` as LaTeX for the symbolic engine."""
    return text.translate(_LATEX_TABLE)


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
    if separator.search(text) is None:
        return [text.strip()], []
    parts, found, depth, start, position = [], [], 0, 0, 0
    while position < len(text):
        # Upright text is a bracket, unless all of it is the separator.
        if depth == 0 and (match := separator.match(text, position)) and match.end() > position:
            parts.append(text[start:position].strip())
            found.append(match.group().strip())
            start = position = match.end()
            continue
        character = text[position]
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        position += 1
    parts.append(text[start:].strip())
    return parts, found
