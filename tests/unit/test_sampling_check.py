"""Ways of sampling that do not go with the rest of a run are refused with a sentence, most of them by --dry-run."""

from pathlib import Path

import pytest

from openrlhf_ktae.openrlhf_options import check
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.runs.plan import plan_run
from openrlhf_ktae.runs.sampling_check import check_end_tag
from openrlhf_ktae.tasks.tiny_model import make_tokenizer
from openrlhf_ktae.training.options import TrainingOptions

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    ("recipe", "sampling"),
    [
        ("cpu_multi_answer", "answers"),
        ("cpu_segment_value", "chain"),
        ("cpu_tree_value", "tree"),
        ("cpu_calculator", "turns"),
        ("cpu_functional_group", "team"),
        ("quickstart", ""),
    ],
)
def test_a_recipe_samples_as_its_term_or_its_task_says(recipe, sampling):
    config = resolve(RECIPES / recipe)
    sections = {section: options.model_dump(mode="json") for section, options in config.sections.items()}
    assert config.sampling()[0] == TrainingOptions("", config.run, sections).sampling() == sampling
    plan_run(RECIPES / recipe, [], None)


def test_a_task_with_a_tool_is_sampled_in_turns_whatever_the_terms():
    config = resolve(RECIPES / "cpu_calculator", ["advantage.terms=[ktae]"])
    assert config.sampling() == ("turns", "task.name=calculator")


@pytest.mark.parametrize(
    ("recipe", "changes", "said"),
    [
        (
            "cpu_multi_answer",
            ["task.name=calculator"],
            "multi_answer samples answers and task.name=calculator samples t",
        ),
        ("cpu_segment_value", ["run.deterministic_sampling=true"], "deterministic_sampling: not with segment_value"),
        ("cpu_multi_answer", ["train.agent_func_path=my.py"], "my.py samples by itself, and so does multi_answer"),
        (
            "cpu_calculator",
            ["train.agent_func_path=my.py"],
            "my.py samples by itself, and so does turn_level",
        ),
        ("cpu_calculator", ["task.name=arithmetic"], "arithmetic has no environment, so a rollout is one turn"),
        (
            "cpu_functional_group",
            [
                "rollout.n_samples_per_prompt=15",
                "train.batch_size=240",
                "train.micro_batch_size=120",
                "rollout.micro_batch_size=120",
            ],
            "got 15, expected a multiple of 2: an episode of .* is a rollout of each of solver, checker",
        ),
        (
            "cpu_segment_value",
            [
                "reward.remote_url=null",
                "reward.model_name_or_path=runs",
                "reward.num_gpus_per_node=1",
                "eval.dataset=null",
            ],
            "segment_value needs rewards while it samples",
        ),
        ("cpu_tree_value", ["advantage.terms=[tree_value, ktae]"], "ktae counts right and wrong rollouts"),
        ("cpu_tree_value", ["tree_value.branches=[20,20,20]"], "20 x 20 x 20 = 8000 texts"),
        ("cpu_multi_answer", ["multi_answer.answers=5"], "5 answers to every thought"),
    ],
)
def test_what_does_not_go_together_is_refused_by_a_dry_run(recipe, changes, said):
    with pytest.raises(ValueError, match=said):
        plan_run(RECIPES / recipe, changes, None)


def test_an_agent_that_says_what_its_turns_earned_needs_no_task_with_a_tool():
    plan_run(RECIPES / "cpu_calculator", ["task.name=arithmetic", "train.agent_func_path=my.py"], None)


@pytest.mark.parametrize(
    ("end", "prompt", "knows"),
    [
        ("#", "1+1=", True),  # where grader.answer_style=hash looks for the answer
        ("</think>", "1+1=", False),
        ("</think>", "Think in <think></think>. 1+1=", True),
        ("<eos>", "1+1=", True),  # a token that the tokenizer adds
    ],
)
def test_a_thought_needs_an_end(tmp_path, end, prompt, knows):
    make_tokenizer().save_pretrained(tmp_path)
    config = resolve(
        RECIPES / "cpu_multi_answer", [f'multi_answer.end="{end}"', f"actor.model_name_or_path={tmp_path}"]
    )
    args = check(config.openrlhf_argv(tmp_path))
    if knows:
        return check_end_tag(config, args, {"input": prompt})
    with pytest.raises(ValueError, match=r"multi_answer\.end: '</think>' is neither in the prompts"):
        check_end_tag(config, args, {"input": prompt})
