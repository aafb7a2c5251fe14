"""Every arm at the value that suits it best, chosen on other seeds."""

from dataclasses import replace

import numpy as np
import pytest
from sweep_outcomes import STEPS, SWEEP

from openrlhf_ktae.report.sweep_page import arm_table, figures, markdown, verdict
from openrlhf_ktae.sweep.comparison import compare
from openrlhf_ktae.sweep.outcomes import Outcome
from openrlhf_ktae.sweep.plan import PlannedRun
from openrlhf_ktae.sweep.tuning import chosen_on_other_seeds, tuned

ARMS = {"grpo": {}, "ktae": {}}
TUNED = SWEEP.model_copy(update={"arms": ARMS, "settings": {"easy": {}}, "values": {"actor.adam.lr": (1e-4, 1e-3)}})
LEVEL = {("grpo", "lr=0.0001"): 0.5, ("grpo", "lr=0.001"): 0.7, ("ktae", "lr=0.0001"): 0.6, ("ktae", "lr=0.001"): 0.4}


def outcome(arm: str, value: str, seed: int, status: str = "finished") -> Outcome:
    run = PlannedRun(f"easy,{value}", arm, seed, "recipes/quickstart", ())
    level = LEVEL[arm, value] + 0.01 * (-1) ** seed
    return Outcome(run, status, accuracy=(STEPS, (level,) * 3), response_tokens=(STEPS, (30.0,) * 3))


def outcomes() -> list[Outcome]:
    return [outcome(arm, value, seed) for seed in TUNED.seeds for arm, value in LEVEL]


def test_every_arm_is_compared_at_its_own_best_value():
    grpo, ktae = compare(outcomes(), TUNED)[-2:]
    assert (grpo.setting, grpo.arm, grpo.chosen) == ("easy,lr=tuned", "grpo", {"lr=0.001": 6})
    assert ktae.chosen == {"lr=0.0001": 6} and ktae.finished == 6
    assert grpo.estimates["area_under_curve"].mean == pytest.approx(0.7)
    assert ktae.differences["area_under_curve"].estimate.mean == pytest.approx(-0.1)


def test_a_seed_has_no_say_in_its_own_value():
    scores = {1: {"low": 0.0, "high": 9.0}, 2: {"low": 1.0, "high": 0.0}, 3: {"low": 1.0, "high": 0.0}}
    assert chosen_on_other_seeds(scores) == {1: "low", 2: "high", 3: "high"}
    assert chosen_on_other_seeds({1: {"a": 1.0, "b": 1.0}, 2: {"a": 1.0, "b": 1.0}}) == {1: "a", 2: "a"}


def test_values_that_differ_by_chance_alone_earn_nothing():
    rng = np.random.default_rng(0)
    honest, flattered = [], []
    for _ in range(2000):
        scores = {seed: {value: float(rng.normal()) for value in "abc"} for seed in range(10)}
        picked = chosen_on_other_seeds(scores)
        honest.append(np.mean([scores[seed][value] for seed, value in picked.items()]))
        flattered.append(max(np.mean([score[value] for score in scores.values()]) for value in "abc"))
    error = np.std(honest) / np.sqrt(len(honest))
    assert np.mean(honest) < 3 * error and np.mean(flattered) > 0.2


def test_it_needs_two_values_with_three_seeds_of_the_baseline():
    one_value = [o for o in outcomes() if o.run.setting == "easy,lr=0.001"]
    assert tuned(one_value, TUNED) == []
    few = [o for o in outcomes() if o.run.setting == "easy,lr=0.001" or o.run.seed < 3]
    assert tuned(few, TUNED) == []
    assert tuned(outcomes(), SWEEP.model_copy(update={"arms": ARMS})) == []


def test_an_arm_without_the_same_runs_is_left_out():
    there = [replace(o, status="missing") if o.run.arm == "ktae" and o.run.seed > 2 else o for o in outcomes()]
    (found,) = tuned(there, TUNED)
    assert len(found.outcomes["grpo"]) == 6 and found.outcomes["ktae"] == [] and found.chosen["ktae"] == {}
    results = [result for result in compare(there, TUNED) if result.setting == "easy,lr=tuned"]
    assert arm_table(results, TUNED)[2][:4] == ["ktae", "0 of 6", "-", "-"]


def test_page_and_tables_say_what_was_chosen():
    results = compare(outcomes(), TUNED)
    here = [result for result in results if result.setting == "easy,lr=tuned"]
    assert "at the value that did best on the arm's other seeds. In mean accuracy" in verdict(here, TUNED)
    assert "accuracy-easy,lr=tuned" in figures(results, TUNED)
    text = markdown(results, TUNED)
    assert "## easy,lr=tuned\n" in text and "| grpo | 6 of 6 | lr=0.001 for 6 |" in text
    assert text.count("chosen on other seeds") == 1
