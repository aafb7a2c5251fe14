"""The file of a sweep and the runs it asks for."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.sweep.checks import check_runs, resolved_runs
from openrlhf_ktae.sweep.plan import SweepFile, planned_runs, read_sweep, settings_of

ROOT = Path(__file__).resolve().parents[2]
RECIPE = str(ROOT / "recipes" / "quickstart")
ARMS = {"grpo": {"advantage.terms": []}, "ktae": {"advantage": {"terms": ["ktae"]}, "ktae.gamma": 0}}


def sweep(**changes) -> SweepFile:
    return SweepFile(**({"recipe": RECIPE, "seeds": (1, 2), "arms": ARMS, "baseline": "grpo"} | changes))


def test_runs_go_seed_by_seed_so_that_what_is_there_is_paired():
    runs = planned_runs(sweep(), ROOT)
    assert [run.name for run in runs] == ["grpo/seed-1", "ktae/seed-1", "grpo/seed-2", "ktae/seed-2"]
    assert runs[1].overrides == ('advantage.terms=["ktae"]', "ktae.gamma=0", "train.seed=1")


def test_settings_are_the_named_ones_with_every_combination_of_values():
    asked = sweep(
        settings={"filler_0": {"run": {"collapse_steps": 5}}, "filler_0.8": {}},
        values={"actor.adam.lr": (1e-4, 2e-4), "rollout.n_samples_per_prompt": (8,)},
    )
    settings = settings_of(asked)
    assert list(settings) == [
        "filler_0,lr=0.0001,n_samples_per_prompt=8",
        "filler_0,lr=0.0002,n_samples_per_prompt=8",
        "filler_0.8,lr=0.0001,n_samples_per_prompt=8",
        "filler_0.8,lr=0.0002,n_samples_per_prompt=8",
    ]
    assert settings["filler_0,lr=0.0002,n_samples_per_prompt=8"] == {
        "run.collapse_steps": 5,
        "actor.adam.lr": 2e-4,
        "rollout.n_samples_per_prompt": 8,
    }
    assert len(planned_runs(asked, ROOT)) == 2 * 4 * 2


def test_later_layers_win_and_the_seed_is_always_the_runs():
    asked = sweep(
        options={"actor.adam.lr": 1e-4, "train.seed": 99, "run.max_restarts": 0},
        settings={"fast": {"actor.adam.lr": 3e-4}},
        arms={"grpo": {}, "slow": {"actor.adam.lr": 1e-5}},
    )
    runs = {run.arm: resolve(run.recipe, list(run.overrides)) for run in planned_runs(asked, ROOT) if run.seed == 2}
    assert runs["grpo"].openrlhf["actor.adam.lr"] == 3e-4 and runs["slow"].openrlhf["actor.adam.lr"] == 1e-5
    assert {config.openrlhf["train.seed"] for config in runs.values()} == {2}
    assert runs["grpo"].run.max_restarts == 0


def test_an_arm_may_have_a_recipe_of_its_own_and_a_seed_in_its_paths():
    arms = {"grpo": {}, "dapo": {"recipe": "recipes/cpu_dapo", "arithmetic.directory": "made/${seed}"}}
    dapo = planned_runs(sweep(arms=arms), ROOT)[1]
    assert Path(dapo.recipe).name == "cpu_dapo"
    assert resolve(dapo.recipe, list(dapo.overrides)).make_task().options.directory == "made/1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "reinforce"}, "baseline: got 'reinforce', expected one of the arms: grpo, ktae"),
        ({"seeds": (1, 1)}, "a seed is named twice"),
        ({"seeds": ()}, "at least 1 item"),
        ({"arms": {"a b": {}}, "baseline": "a b"}, "the name 'a b' has to work as a folder"),
        ({"repeats": 3}, "Extra inputs are not permitted"),
        ({"values": {"actor.adam.lr": []}}, "actor.adam.lr has no value"),
        ({"values": {"data.input_template": ["Q: {}!", "Q: {}?"]}}, r"would have the folders \['Q', 'Q'\], which have"),
        ({"values": {"data.input_template": ["?", "Q"]}}, r"would have the folders \['', 'Q'\]"),
        ({"options": {"run": {"output_dir": "out"}}}, "run.output_dir is the sweep's own"),
        ({"settings": {"here": {"run.output_dir": "out"}}}, "run.output_dir is the sweep's own"),
    ],
)
def test_a_file_that_makes_no_sense_says_what_is_wrong(changes, message, tmp_path):
    import yaml

    file = tmp_path / "sweep.yaml"
    plain = {"recipe": RECIPE, "seeds": [1], "arms": ARMS, "baseline": "grpo"} | changes
    file.write_text(yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}))
    with pytest.raises(ValueError, match=message):
        read_sweep(file)


def test_files_that_are_missing_or_no_mapping_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.yaml does not exist"):
        read_sweep(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="holds a list, expected recipe, seeds, arms and baseline"):
        read_sweep(tmp_path / "list.yaml")


def test_a_wrong_option_is_found_before_any_run_starts():
    asked = sweep(arms={"grpo": {}, "typo": {"ktae.gama": 0}})
    with pytest.raises(ValueError, match=r"typo/seed-1: ktae.gama: unknown option; did you mean ktae.gamma"):
        check_runs(asked, resolved_runs(planned_runs(asked, ROOT)))


def test_two_settings_may_not_make_each_others_prompts_and_model_anew():
    asked = sweep(values={"arithmetic.warmup_noise": (0.1, 0.2)})
    with pytest.raises(ValueError, match=r"in runs/assets/arithmetic, as warmup_noise=0\.1/grpo/seed-1 does"):
        check_runs(asked, resolved_runs(planned_runs(asked, ROOT)))


def test_an_arm_with_other_prompts_is_named():
    going_on = {"run.stop_on_collapse": False}
    small = {"rollout.batch_size": 16, "train.batch_size": 128, "eval.dataset": "other.jsonl"}
    asked = sweep(options=going_on, arms={"grpo": {}, "small": small})
    assert check_runs(asked, resolved_runs(planned_runs(asked, ROOT))) == [
        "rollout.batch_size of arm small is not the baseline's: the two do not see the same prompts",
        "eval.dataset of arm small is not the baseline's: the two do not answer the same problems",
    ]
    asked = sweep(options=going_on)
    assert check_runs(asked, resolved_runs(planned_runs(asked, ROOT))) == []


def test_a_sweep_whose_collapsed_runs_would_not_count_is_told_so():
    asked = sweep()
    (note,) = check_runs(asked, resolved_runs(planned_runs(asked, ROOT)))
    assert "run.stop_on_collapse is on" in note


@pytest.mark.parametrize("file", sorted((ROOT / "recipes" / "sweeps").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_sweep_of_this_project_resolves(file):
    asked = read_sweep(file)
    runs = [run for run in planned_runs(asked, file.parent) if run.seed == asked.seeds[0]]
    # A*-PO has prompts of its own, those with a value, and DAPO draws more of them.
    notes = [note for note in check_runs(asked, resolved_runs(runs)) if "the same prompts" not in note]
    assert notes == [] and (file.stem.startswith("evidence_methods") or not check_runs(asked, resolved_runs(runs)))


def arm(name):
    """The module of an arm that is a file of its own."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / "sweeps" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shuffled_values_are_those_of_the_same_rollout_in_another_order():
    module = arm("shuffled_ktae")
    values = torch.arange(40.0).view(2, 20)
    mask = torch.arange(20).expand(2, 20) < torch.tensor([[20], [5]])
    found = module.shuffled(values, mask, seed=3)
    assert sorted(found[0].tolist()) == values[0].tolist() and found[0].tolist() != values[0].tolist()
    assert sorted(found[1, :5].tolist()) == values[1, :5].tolist() and found[1, 5:].tolist() == values[1, 5:].tolist()
    assert torch.equal(found, module.shuffled(values, mask, seed=3))
    assert not torch.equal(found, module.shuffled(values, mask, seed=4))


def test_oracle_credit_is_the_advantage_on_the_tokens_that_decide():
    oracle = arm("oracle_credit")
    term = oracle.Term(oracle.OracleCreditOptions(model="nowhere"))
    term._texts = dict(enumerate(["<pad>", "<eos>", " bab", " makes", " 1", " 9", " .", " #"]))
    rows = [[2, 3, 4, 6, 500, 7, 5, 1], [4, 3, 5, 0, 0, 0, 0, 0]]  # 500: of the model, not of its tokenizer
    batch = SimpleNamespace(token_ids=torch.tensor(rows), mask=torch.tensor(rows) != 0)
    batch.mask[1, 0] = False  # a token of the prompt
    found = term.apply(batch, torch.tensor([[0.5], [-2.0]]).expand(2, 8))
    expected = [[0, 0.5, 0.5, 0, 0, 0, 0.5, 0], [0, -2, -2, 0, 0, 0, 0, 0]]
    assert found.advantages.tolist() == expected
    assert found.metrics["share"] == pytest.approx(5 / 10)
    term.options = oracle.OracleCreditOptions(model="nowhere", others=0.5)
    halves = [[0.25, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5, 0.25], [-1, -2, -2, -1, -1, -1, -1, -1]]
    assert term.apply(batch, torch.tensor([[0.5], [-2.0]]).expand(2, 8)).advantages.tolist() == halves
