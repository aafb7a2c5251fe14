"""Every shipped recipe: OpenRLHF takes it, its batches, GPUs and lengths fit, and it says what it claims."""

from pathlib import Path

import pytest
import yaml

from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.openrlhf_options import check
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.runs.batch_sizes import batch_plan

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/recipe.yaml"))
PUBLISHED = [f"{family}_qwen2.5_math_{size}" for family in ("grpo", "dapo") for size in ("1.5b", "7b")]
ABLATIONS = {"fisher": "alpha", "information_gain": "beta", "term_frequency": "gamma"}
FRAGMENTS = sorted(path.relative_to(ROOT / "configs") for path in (ROOT / "configs").glob("*/*.yaml"))
SECRETS = ("logger.wandb.key", "token", "password", "api_key")


def resolved(name):
    config = resolve(ROOT / "recipes" / name)
    return config, check(config.openrlhf_argv("runs/some_run"))


@pytest.mark.parametrize("name", RECIPES)
def test_openrlhf_accepts_the_recipe_and_its_batches_fit(name):
    config, args = resolved(name)
    plan = batch_plan(args, config.run.logical_gpus)
    assert plan.updates * args.train.batch_size == plan.rollouts
    assert args.data.max_len > args.rollout.max_new_tokens
    assert plan.gpus_total <= 8


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "quickstart"])
def test_the_recipe_has_a_page_that_names_its_command(name):
    page = (ROOT / "recipes" / name / "README.md").read_text(encoding="utf-8")
    assert f"recipes/{name}" in page


@pytest.mark.parametrize("name", [name for name in PUBLISHED] + [f.replace("_qwen", "_ktae_qwen") for f in PUBLISHED])
def test_a_published_recipe_has_the_published_settings(name):
    config, args = resolved(name)
    assert (args.rollout.batch_size, args.rollout.n_samples_per_prompt) == (1024, 16)
    assert batch_plan(args).updates == 8
    assert (args.data.max_len, args.rollout.max_new_tokens) == (1024 + 3072, 3072)
    assert args.actor.adam.lr == 1e-6 and args.actor.adam.weight_decay == 0.01
    assert tuple(args.actor.adam.betas) == (0.9, 0.999) and args.actor.max_norm == 1
    assert (args.actor.lr_scheduler, args.rollout.temperature) == ("constant", 1)
    assert (args.train.num_episodes, args.eval.steps, args.ckpt.save_steps) == (20, 5, 10)
    assert batch_plan(args).gpus_total == 8
    assert config.terms == (("ktae",) if "_ktae_" in name else ())
    assert config.sections.get("ktae", KtaeConfig()) == KtaeConfig()


@pytest.mark.parametrize("ktae", ["", "_ktae"])
@pytest.mark.parametrize("size", ["1.5b", "7b"])
def test_clipping_kl_and_filtering_are_those_of_the_family(size, ktae):
    _, grpo = resolved(f"grpo{ktae}_qwen2.5_math_{size}")
    assert (tuple(grpo.actor.eps_clip_low_high), grpo.actor.dual_clip) == ((0.2, 0.2), 3)
    assert grpo.algo.kl.init_coef == (0.001 if size == "1.5b" else 0)
    assert grpo.algo.kl.use_loss and grpo.algo.kl.estimator == "k3"
    assert not grpo.algo.dynamic_filtering_enable and grpo.reward.overlong_buffer_len is None

    _, dapo = resolved(f"dapo{ktae}_qwen2.5_math_{size}")
    assert tuple(dapo.actor.eps_clip_low_high) == ((0.2, 0.28) if size == "1.5b" else (0.2, 0.24))
    assert (dapo.actor.dual_clip, dapo.actor.loss_agg_mode, dapo.algo.kl.init_coef) == (10, "token-mean", 0)
    assert (dapo.reward.overlong_buffer_len, dapo.reward.overlong_penalty_factor) == (512, 1)
    assert dapo.algo.dynamic_filtering_enable and tuple(dapo.algo.dynamic_filtering_range) == (0, 1)


@pytest.mark.parametrize("part", ABLATIONS)
def test_an_ablation_differs_from_the_whole_in_one_weight(part):
    whole, ablated = (
        resolve(ROOT / "recipes" / name).settings()
        for name in ("grpo_ktae_qwen2.5_math_1.5b", f"grpo_ktae_without_{part}_qwen2.5_math_1.5b")
    )
    assert {key: ablated[key] for key in whole if whole[key] != ablated[key]} == {f"ktae.{ABLATIONS[part]}": 0}


@pytest.mark.parametrize("name", PUBLISHED)
def test_ktae_and_its_baseline_differ_in_the_terms_alone(name):
    baseline, ktae = (
        resolve(ROOT / "recipes" / recipe).settings() for recipe in (name, name.replace("_qwen", "_ktae_qwen"))
    )
    assert {key for key in baseline if baseline[key] != ktae[key]} == {"advantage.terms"}


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=str)
def test_every_fragment_is_used_by_a_recipe(fragment):
    used = set()
    for name in RECIPES:
        used |= set(yaml.safe_load((ROOT / "recipes" / name / "recipe.yaml").read_text())["fragments"])
    assert str(fragment.with_suffix("")) in used


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_holds_a_secret(name):
    settings = resolve(ROOT / "recipes" / name).settings()
    assert not [key for key in settings if key.endswith(SECRETS)]


@pytest.mark.parametrize("data", ["gsm8k", "math"])
@pytest.mark.parametrize("size", ["1.5b", "3b", "7b"])
def test_a_star_recipes_have_the_published_settings(size, data):
    config, args = resolved(f"a_star_{data}_qwen2.5_{size}")
    assert (config.policy_loss, config.terms) == ("a_star", ())
    options = config.sections["a_star"]
    assert (options.beta1, options.beta2) == (0.5, 1e-3)  # pyright: ignore[reportAttributeAccessIssue]
    assert (args.rollout.batch_size, args.rollout.n_samples_per_prompt, batch_plan(args).updates) == (256, 1, 2)
    assert (args.data.max_len, args.rollout.max_new_tokens, args.rollout.temperature) == (256 + 1024, 1024, 1)
    assert (args.actor.adam.lr, args.actor.lr_scheduler, args.train.num_episodes) == (1e-6, "constant", 25)
    assert args.actor.entropy_coef == 1e-3 and args.algo.kl.use_loss and args.algo.kl.init_coef > 0
    assert args.actor.model_name_or_path == f"Qwen/Qwen2.5-{size.upper()}" and batch_plan(args).gpus_total == 4
    assert config.grader.answer_style == ("hash" if data == "gsm8k" else "boxed")
    assert data in args.data.prompt_dataset and size in args.data.prompt_dataset
