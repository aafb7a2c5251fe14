"""What ``openrlhf-ktae doctor`` says, line by line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    found: str
    verdict: str
    """``ok``, ``note`` or ``wrong``."""
