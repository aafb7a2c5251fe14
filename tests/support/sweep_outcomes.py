"""Outcomes of a made-up sweep, for the tests of its comparison and its page."""

from openrlhf_ktae.sweep.outcomes import Outcome
from openrlhf_ktae.sweep.plan import PlannedRun, SweepFile

SWEEP = SweepFile(
    recipe="recipes/quickstart",
    seeds=(1, 2, 3, 4, 5, 6),
    arms={"grpo": {}, "better": {}, "same": {}, "late": {}},
    baseline="grpo",
    reach=(0.6, 0.99),
)
STEPS = (0, 10, 20)
GAIN = {"grpo": 0.0, "better": 0.05, "same": 0.0, "late": 0.0}


def outcome(arm: str, seed: int, status: str = "finished") -> Outcome:
    """A run whose numbers follow from arm and seed: `better` ends 0.05 above grpo, `same` only scatters."""
    base = 0.4 + 0.02 * seed + (0.002 * (-1) ** seed * seed if arm == "same" else 0.0)
    accuracy = (base, base + 0.1 + GAIN[arm] + 0.001 * seed, base + 0.2 + GAIN[arm])
    run = PlannedRun("", arm, seed, "recipes/quickstart", ())
    tokens = (40.0, 35.0, 30.0 - 20 * GAIN[arm])
    return Outcome(run, status, None, "c0ffee", (STEPS, accuracy), (STEPS, tokens), 20, 1.2, 60.0)


def outcomes() -> list[Outcome]:
    """All runs of `SWEEP`; of `late` only the first seed is finished."""
    found = [outcome(arm, seed) for seed in SWEEP.seeds for arm in ("grpo", "better", "same")]
    return found + [outcome("late", seed, "finished" if seed == 1 else "missing") for seed in SWEEP.seeds]
