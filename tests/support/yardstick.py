"""The yardstick: pairs by kind as large training sets write them, read from yardstick.txt."""

from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("yardstick.txt")


@dataclass(frozen=True)
class Pair:
    """An answer, a reference, and whether a person calls the answer right."""

    kind: str
    answer: str
    gold: str
    equal: bool


def read_pairs(source: Path = SOURCE) -> list[Pair]:
    """Every pair of the file, in its order.

    Raises:
        ValueError: a line that is neither a comment, a kind nor a pair.
    """
    pairs, kind = [], ""
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("## "):
            kind = line[3:].strip()
        elif line.strip() and not line.startswith("# "):
            verdict, _, texts = line.partition(" ")
            answer, separator, gold = texts.partition(" === ")
            if verdict not in "+-" or not separator or not kind:
                raise ValueError(f"{source}, line {number}: got {line!r}, expected '+ answer === reference' or '- ...'")
            pairs.append(Pair(kind, answer.strip(), gold.strip(), verdict == "+"))
    return pairs
