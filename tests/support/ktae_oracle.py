"""An independent key-token estimator in plain Python: exact integers for the counts and Fisher's test, float64 after.

Written from the specification, one token at a time, sharing nothing with the package. Slow on purpose.
"""

from collections import Counter, defaultdict
from fractions import Fraction
from math import asin, comb, exp, log2, sqrt, tanh


def fisher_p(n_correct: int, n_wrong: int, a: int, b: int) -> Fraction:
    """Two-sided p as an exact fraction."""
    weights = {
        k: comb(n_correct, k) * comb(n_wrong, a + b - k)
        for k in range(max(0, a + b - n_wrong), min(n_correct, a + b) + 1)
    }
    return Fraction(
        sum(weight for weight in weights.values() if weight <= weights[a]), comb(n_correct + n_wrong, a + b)
    )


def entropy(*counts: int) -> float:
    total = sum(counts)
    return -sum(count / total * log2(count / total) for count in counts if count > 0)


def information_gain(n_correct: int, n_wrong: int, a: int, b: int) -> float:
    n, c, d = n_correct + n_wrong, n_correct - a, n_wrong - b
    return entropy(n_correct, n_wrong) - (a + b) / n * entropy(a, b) - (c + d) / n * entropy(c, d)


def key_token_value(config, n_correct, n_wrong, a, b, m_c, m_w, t_c, t_w) -> float:
    p = fisher_p(n_correct, n_wrong, a, b)
    strength = config.alpha * (0.0 if p == 1 else exp(-2 * float(p)))
    strength += config.beta * information_gain(n_correct, n_wrong, a, b)
    strength /= config.alpha + config.beta
    m_c, m_w, t_c, t_w = (
        m_c + config.tf_smoothing,
        m_w + config.tf_smoothing,
        t_c + 2 * config.tf_smoothing,
        t_w + 2 * config.tf_smoothing,
    )

    def frequency(m, t):
        q = m / t
        k = config.k1 * (1 - config.b0 + config.b0 * t / ((t_c + t_w) / 2))
        return q * (config.k1 + 1) / (q + k) if q > 0 else 0.0

    f_c, f_w = frequency(m_c, t_c), frequency(m_w, t_w)
    r = f_c / (f_w + config.eps) - f_w / (f_c + config.eps)
    direction = asin(sqrt(a / n_correct)) - asin(sqrt(b / n_wrong)) + config.gamma * r
    return config.scale * tanh(strength * direction / 2)


def oracle_values(token_ids, mask, correct, group, config) -> list[list[float]]:
    """Nested lists (N, T), same arguments as `key_token_values` but as nested lists."""
    result = [[0.0] * len(row) for row in token_ids]
    members = defaultdict(list)
    for row, name in enumerate(group):
        members[name].append(row)
    for rows in members.values():
        tokens = {row: [t for t, kept in zip(token_ids[row], mask[row], strict=True) if kept] for row in rows}
        good, bad = [r for r in rows if correct[r]], [r for r in rows if not correct[r]]
        m_c, m_w = (Counter(t for r in side for t in tokens[r]) for side in (good, bad))
        a, b = (Counter(t for r in side for t in set(tokens[r])) for side in (good, bad))
        t_c, t_w = m_c.total(), m_w.total()
        if t_c == 0 or t_w == 0:
            continue
        value = {
            t: key_token_value(config, len(good), len(bad), a[t], b[t], m_c[t], m_w[t], t_c, t_w)
            for t in {*m_c, *m_w} - set(config.ignore_token_ids)
        }
        for row in rows:
            result[row] = [
                value.get(t, 0.0) if kept else 0.0 for t, kept in zip(token_ids[row], mask[row], strict=True)
            ]
    return result
