"""An independent check of knights and knaves: statements as Python source, all 2^n assignments tried."""

from itertools import product


def _source(said) -> str:
    kind, *parts = said
    if kind == "telling-truth":
        return f"r[{parts[0]}]"
    if kind == "lying":
        return f"(not r[{parts[0]}])"
    if kind == "not":
        return f"(not {_source(parts[0])})"
    left, right = map(_source, parts)
    if kind == "->":
        return f"({right} if {left} else True)"
    return f"({left} {({'and': 'and', 'or': 'or', '<=>': '=='})[kind]} {right})"


def all_solutions(statements) -> list[tuple[bool, ...]]:
    """Every assignment under which each person's role is the truth of what the person says."""
    told = eval(f"lambda r: ({', '.join(map(_source, statements))},)")
    return [roles for roles in product((True, False), repeat=len(statements)) if told(roles) == roles]
