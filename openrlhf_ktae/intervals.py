"""How sure a share is."""

Z95 = 1.959964


def wilson_interval(rate: float, n: float, z: float = Z95) -> tuple[float, float]:
    """95 % Wilson score interval of a success rate in [0, 1] over n problems; (0, 1) for n = 0.

    It has a width at 0 and at 1 too, where a bootstrap has none.
    """
    if n <= 0:
        return 0.0, 1.0
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (rate * (1 - rate) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
