r"""Residues: ``3 \pmod 7``, ``n \equiv 3 \pmod 7``."""

import re
from dataclasses import dataclass, field

_RESIDUE = re.compile(
    r"(?P<value>[+-]?\s*\d{1,18})\s*\(?\s*(?:\\(?:pmod|bmod|mod)(?![A-Za-z])|‹\s*mod\s*›|mod(?![a-z]))"
    r"\s*\{?\s*(?P<modulus>\d{1,18})\s*\}?\s*\)?"
)


@dataclass(frozen=True)
class Residue:
    """The whole numbers that leave a rest when they are divided by a modulus."""

    value: int
    modulus: int
    written: int = field(compare=False)


def read_residue(text: str) -> Residue | None:
    """The residue that a text names (without what is congruent to it), or None."""
    match = _RESIDUE.fullmatch(text.strip()) if "mod" in text else None
    if match is None or int(match["modulus"]) == 0:
        return None
    modulus, written = int(match["modulus"]), int(match["value"].replace(" ", ""))
    return Residue(written % modulus, modulus, written)
