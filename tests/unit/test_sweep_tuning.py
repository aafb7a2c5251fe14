"""Every arm at the value that suits it best: chosen on some seeds, measured on the others."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sweep_outcomes import STEPS, SWEEP

from openrlhf_ktae.report.sweep_page import arm_table, figures, markdown, verdict
from openrlhf_ktae.sweep.comparison import compare
from openrlhf_ktae.sweep.outcomes import Outcome
from openrlhf_ktae.sweep.plan import PlannedRun, SweepFile
from openrlhf_ktae.sweep.statistics import paired_difference
from openrlhf_ktae.sweep.tuning import tuned

VALUES = {"actor.adam.lr": (1e-4, 1e-3)}
TUNED = SWEEP.model_copy(
    update={"arms": {"grpo": {}, "ktae": {}}, "settings": {"easy": {}}, "values": VALUES, "tune_on": (1, 2)}
)
LEVEL = {("grpo", "lr=0.0001"): 0.5, ("grpo", "lr=0.001"): 0.7, ("ktae", "lr=0.0001"): 0.6, ("ktae", "lr=0.001"): 0.4}


def outcome(arm: str, setting: str, seed: int, level: float) -> Outcome:
    run = PlannedRun(setting, arm, seed, "recipes/quickstart", ())
    return Outcome(run, "finished", accuracy=(STEPS, (level,) * 3), response_tokens=(STEPS, (30.0,) * 3))


def outcomes() -> list[Outcome]:
    return [
        outcome(arm, f"easy,{value}", seed, level + 0.01 * (-1) ** seed)
        for seed in TUNED.seeds
        for (arm, value), level in LEVEL.items()
    ]


def at_best(results):
    return [result for result in results if result.tuned]


def test_every_arm_is_compared_at_its_own_best_value_on_the_other_seeds():
    grpo, ktae = at_best(compare(outcomes(), TUNED))
    assert grpo.setting == "easy,lr=tuned" and list(grpo.tuned.values) == ["lr=0.0001", "lr=0.001"]
    assert grpo.tuned.chosen == {"grpo": "lr=0.001", "ktae": "lr=0.0001"}
    assert (grpo.finished, grpo.planned) == (4, 4) and grpo.estimates["area_under_curve"].mean == pytest.approx(0.7)
    assert ktae.differences["area_under_curve"].estimate.mean == pytest.approx(-0.1)


def test_seeds_that_are_measured_have_no_say_in_the_choice():
    there = [
        replace(o, accuracy=(STEPS, (0.99,) * 3)) if (o.run.arm, o.run.setting) == ("grpo", "easy,lr=0.0001") else o
        for o in outcomes()
        if o.run.seed > 2
    ]
    chosen = tuned([*there, *(o for o in outcomes() if o.run.seed <= 2)], TUNED)[0].chosen
    assert chosen["grpo"] == "lr=0.001"


def test_intervals_hold_what_they_say_where_values_differ_by_chance_alone():
    rng, excluded = np.random.default_rng(0), 0
    for _ in range(400):
        made = [outcome(arm, f"easy,{value}", seed, rng.normal()) for seed in TUNED.seeds for arm, value in LEVEL]
        grpo, ktae = ({o.run.seed: o.accuracy[1][0] for o in runs} for runs in tuned(made, TUNED)[0].outcomes.values())
        difference = paired_difference(ktae, grpo)
        excluded += difference is not None and difference.excludes_zero
    assert 8 <= excluded <= 34  # 5 % are 20


def test_it_needs_two_values_at_which_the_baseline_has_finished_the_seeds_that_choose():
    one_value = [o for o in outcomes() if o.run.setting == "easy,lr=0.001"]
    assert tuned(one_value, TUNED) == []
    begun = one_value + [o for o in outcomes() if o.run.seed == 1]
    assert tuned(begun, TUNED) == []
    assert tuned(outcomes(), TUNED.model_copy(update={"tune_on": ()})) == []


def test_a_value_that_is_half_run_takes_nothing_away():
    three = TUNED.model_copy(update={"values": {"actor.adam.lr": (1e-4, 1e-3, 1e-2)}})
    half = [outcome("grpo", "easy,lr=0.01", 1, 0.99)]
    assert list(tuned(outcomes() + half, three)[0].values) == ["lr=0.0001", "lr=0.001"]


def test_an_arm_that_cannot_choose_is_left_out_by_name():
    there = [o for o in outcomes() if o.run.arm == "grpo" or o.run.seed > 2]
    grpo, ktae = results = at_best(compare(there, TUNED))
    assert grpo.finished == 4 and ktae.finished == 0 and ktae.tuned.chosen["ktae"] is None
    assert arm_table(results, TUNED)[2][:3] == ["ktae", "0 of 4", "-"]
    assert "Left out, for want of one of these runs: ktae. Nothing can be said yet" in verdict(results, TUNED)


def test_settings_without_a_name_and_two_lists_of_values():
    lists = {"actor.adam.lr": (1e-4, 1e-3), "ktae.gamma": (1,)}
    plain = TUNED.model_copy(update={"settings": {}, "values": lists})
    made = [replace(o, run=replace(o.run, setting=f"{o.run.setting[5:]},gamma=1")) for o in outcomes()]
    assert [found.setting for found in tuned(made, plain)] == ["lr=tuned,gamma=tuned"]
    assert ">lr and gamma</text>" in figures(compare(made, plain), plain)["values-lr=tuned,gamma=tuned"]


def test_a_figure_shows_every_arm_at_every_value():
    backwards = TUNED.model_copy(update={"values": {"actor.adam.lr": (1e-3, 1e-4)}})
    figure = figures(compare(outcomes(), backwards), backwards)["values-easy,lr=tuned"]
    said = re.findall(r'aria-label="(\w+): 0.0001 (\S+) \(.*?; 0.001 (\S+) \(', figure)
    assert said == [("grpo", "0.500", "0.700"), ("ktae", "0.600", "0.400")]
    assert ">lr</text>" in figure and "step" not in figure


def test_page_and_tables_say_what_was_chosen():
    results = compare(outcomes(), TUNED)
    assert verdict(at_best(results), TUNED).startswith(
        "Every arm at the one of lr=0.0001, lr=0.001 with its highest mean accuracy over training on seeds 1, 2, "
        "measured on the others. In mean accuracy over training ktae is below grpo"
    )
    assert "accuracy-easy,lr=tuned" in figures(results, TUNED)
    text = markdown(results, TUNED)
    assert "## easy,lr=tuned\n" in text and "| grpo | 4 of 4 | lr=0.001 |" in text and text.count("| at |") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {}}, "tune_on: there is nothing to choose from"),
        ({"tune_on": (1, 2, 3, 4, 5, 6)}, r"expected some of the seeds \[1, 2, 3, 4, 5, 6\], and not all of them"),
        ({"tune_on": (7,)}, r"tune_on: got \[7\], expected some of the seeds"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SweepFile(**(TUNED.model_dump() | changes))
