"""A fuzzer of hostile answers: what a model in training may write, and what someone could want it to write."""

import random
from collections.abc import Callable, Iterator

_SYMBOLS = "xyznk"
_COMMANDS = (
    r"\frac",
    r"\sqrt",
    r"\left(",
    r"\right)",
    r"\begin{pmatrix}",
    r"\end{pmatrix}",
    r"\text{",
    r"\boxed{",
    r"\pm",
)
_UNICODE = "٣٤٥१२३𝟙𝟚²³¼Ⅷ∞√π−×÷\u200b\u202e\ufeff\ud800é漢"


def _tower(rng: random.Random) -> str:
    height = rng.randint(2, 60)
    return "^{".join(str(rng.randint(2, 99)) for _ in range(height)) + "}" * (height - 1)


def _symbolic_tower(rng: random.Random) -> str:
    height = rng.randint(2, 30)
    return "^{".join(rng.choice([*_SYMBOLS, "9"]) for _ in range(height)) + "}" * (height - 1)


def _braces(rng: random.Random) -> str:
    depth = rng.choice([10, 200, 10_000])
    pair = rng.choice(["{}", "()", "[]"])
    return pair[0] * depth + "1" + pair[1] * rng.choice([depth, depth - 1, 0])


def _digits(rng: random.Random) -> str:
    return rng.choice(["", "-", "0."]) + "".join(rng.choices("0123456789", k=rng.choice([20, 900, 5000, 50_000])))


def _exponent(rng: random.Random) -> str:
    return f"{rng.randint(2, 9)}{rng.choice(['e', '^', '**', '^{', '.5^'])}{'9' * rng.randint(2, 12)}"


def _factorial(rng: random.Random) -> str:
    return rng.choice(["{}!", "({}!)!", "{}!!", r"\binom{{{}}}{{7}}", r"\frac{{{}!}}{{3!}}"]).format(
        10 ** rng.randint(2, 9)
    )


def _unbalanced(rng: random.Random) -> str:
    return "".join(rng.choice([*_COMMANDS, *"{}()[]^_&$\\,=<>|", *"0123456789xy"]) for _ in range(rng.randint(1, 120)))


def _bytes(rng: random.Random) -> str:
    return "".join(chr(rng.choice([0, 1, 7, 27, 127, 0x2028, 10, 13, 92, 36, 53])) for _ in range(rng.randint(1, 60)))


def _unicode(rng: random.Random) -> str:
    return "".join(rng.choice(_UNICODE + "0123456789+-^{}") for _ in range(rng.randint(1, 40)))


def _matrix(rng: random.Random) -> str:
    size = rng.choice([3, 30, 500])
    row = "&".join([str(rng.randint(0, 9))] * size)
    return r"\begin{pmatrix}" + r"\\".join([row] * size) + r"\end{pmatrix}"


def _fractions(rng: random.Random) -> str:
    depth = rng.choice([5, 25, 39, 300])
    return r"\frac{1}{1+" * depth + rng.choice(["x", "2"]) + "}" * depth


def _repetition(rng: random.Random) -> str:
    piece = rng.choice(
        [
            "1+",
            "x",
            "(",
            "-",
            ",",
            "1,",
            "\\",
            "\\frac",
            "=",
            "x=",
            "{1}",
            "^",
            "_",
            "∪",
            "±1",
            " or ",
            "‹",
            "%",
            "°",
            " cm",
        ]
    )
    return piece * rng.choice([30, 300, 1999 // len(piece), 5000])


def _heavy(rng: random.Random) -> str:
    return rng.choice(
        [
            r"\sum_{n=1}^{2000} \frac{1}{n^{n}} + " + str(rng.random()),
            r"\int_0^1 \sin(x^{x^{x}}) e^{\tan x} dx + " + str(rng.random()),
            r"\prod_{n=1}^{1999} (x+n)^{n} " + str(rng.random()),
            "(x+y+z+1)^{1999}" + f"+{rng.random()}",
            r"\lim_{x\to 0} \frac{\sin(\sin(\sin x))}{x^{9}}" + f"+{rng.random()}",
        ]
    )


def _megabyte(rng: random.Random) -> str:
    return rng.choice(["9", "x+", "{", r"\boxed{", " ", "ab ", "\0", "1,", r"\frac{1}{"]) * 400_000


KINDS: dict[str, tuple[Callable[[random.Random], str], int]] = {
    "tower of powers": (_tower, 10),
    "symbolic tower": (_symbolic_tower, 10),
    "nested brackets": (_braces, 10),
    "digits": (_digits, 10),
    "exponent": (_exponent, 10),
    "factorial": (_factorial, 10),
    "unbalanced LaTeX": (_unbalanced, 20),
    "control characters": (_bytes, 10),
    "unicode": (_unicode, 10),
    "matrix": (_matrix, 5),
    "deep fraction": (_fractions, 10),
    "repetition": (_repetition, 15),
    "megabyte": (_megabyte, 1),
}
"""Generators by name, each with its weight."""


def hostile_answers(count: int, seed: int = 0, heavy: int = 0) -> Iterator[tuple[str, str]]:
    """(kind, answer) pairs; ``heavy`` of them, spread evenly, take the symbolic engine longer than any deadline."""
    rng = random.Random(seed)
    names, weights = list(KINDS), [weight for _, weight in KINDS.values()]
    for index in range(count):
        if heavy and index % max(1, count // heavy) == 0:
            yield "heavy", _heavy(rng)
        else:
            name = rng.choices(names, weights)[0]
            yield name, KINDS[name][0](rng)
