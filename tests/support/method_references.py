"""Slow references of the methods beside KTAE: plain Python from the papers, one number at a time.

And the examples of docs/methods.md.
"""

import math
import re
from pathlib import Path

METHODS = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text()


def document_example(name: str, folder: Path) -> Path:
    """Writes the file of that name as docs/methods.md shows it."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)```", METHODS, re.DOTALL)
    assert found, name
    path = folder / name
    path.write_text(found[1])
    return path


def token_probability(advantages, log_probs, alpha):
    """AR: every token by its probability."""
    return [
        [(alpha * math.exp(log_prob) + 1 - alpha) * a for a, log_prob in zip(row, logs, strict=True)]
        for row, logs in zip(advantages, log_probs, strict=True)
    ]


def kalman_baseline(rewards, process_noise=1e-5, measurement_noise=1e-2):
    """KRPO: the advantages of one group's rewards, in their order."""
    x, p, advantages = 0.0, 1.0, []
    for reward in rewards:
        p += process_noise
        gain = p / (p + measurement_noise)
        x += gain * (reward - x)
        p *= 1 - gain
        advantages.append((reward - x) / (math.sqrt(p) + 1e-8))
    return advantages


def high_entropy(advantages, entropies, mask, share):
    """80/20: the advantages of the tokens with the highest entropies of all rollouts, ties with the last included."""
    counted = sorted((h for row, ms in zip(entropies, mask, strict=True) for h, m in zip(row, ms, strict=True) if m))
    threshold = counted[len(counted) - max(1, math.ceil(share * len(counted)))]
    return [
        [a if h >= threshold else 0.0 for a, h in zip(row, hs, strict=True)]
        for row, hs in zip(advantages, entropies, strict=True)
    ]


def entropy_weight(advantages, entropies, mask, beta):
    """Every token by its entropy over the mean entropy."""
    counted = [h for row, ms in zip(entropies, mask, strict=True) for h, m in zip(row, ms, strict=True) if m]
    mean = sum(counted) / len(counted)
    return [
        [a * (1 + beta * h / mean) for a, h in zip(row, hs, strict=True)]
        for row, hs in zip(advantages, entropies, strict=True)
    ]
