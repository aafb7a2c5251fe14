"""Runs that cannot work are refused with one sentence before any actor starts."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from openrlhf_ktae.openrlhf_options import OptionError
from openrlhf_ktae.recipe import resolve
from openrlhf_ktae.runs.preflight import PreflightError, preflight
from openrlhf_ktae.tasks.arithmetic import prompt_rows
from openrlhf_ktae.tasks.prompt_set import write_prompts
from openrlhf_ktae.tasks.reward import TASK_VARIABLE
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    save(make_model(0), make_tokenizer(), folder / "model")
    for name in ("train", "evaluation"):
        write_prompts(prompt_rows(name, 40, seed=0), folder / f"{name}.jsonl")
    return folder


@pytest.fixture
def check(assets, tmp_path):
    """Preflight of the quickstart recipe on small assets, with changes."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    recipe = yaml.safe_load((ROOT / "recipes/quickstart/recipe.yaml").read_text())
    (tmp_path / "recipes" / "quickstart").mkdir(parents=True)
    (tmp_path / "recipes" / "quickstart" / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def run(*overrides: str):
        settings = [
            f"actor.model_name_or_path={assets / 'model'}",
            f"data.prompt_dataset={assets / 'train.jsonl'}",
            f"eval.dataset={assets / 'evaluation.jsonl'}",
            *overrides,
        ]
        return preflight(resolve(tmp_path / "recipes" / "quickstart", settings), tmp_path / "run")

    return run


def reward_file(tmp_path: Path, body: str) -> str:
    path = tmp_path / "my_reward.py"
    path.write_text(f"import torch\ndef reward_func(queries, prompts, labels, **kwargs):\n    {body}\n")
    return f"reward.remote_url={path}"


def test_a_run_that_can_work_passes(check):
    assert check().actor.num_gpus_per_node == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rollout.n_samples_per_prompt=1"], "n_samples_per_prompt"),
        (
            ["rollout.n_samples_per_prompt=1", "algo.advantage.estimator=reinforce", "rollout.micro_batch_size=8"],
            r"rollout\.n_samples_per_prompt: got 1, ktae compares .* take ktae out",
        ),
        (
            ["run.deterministic_sampling=true", "train.async_enable=true"],
            r"run\.deterministic_sampling: not with train\.async_enable",
        ),
        (["algo.advantage.estimator=gae"], r"algo\.advantage\.estimator: gae estimates"),
        (["actor.model_name_or_path=runs/no/such/model"], "runs/no/such/model is no model folder"),
        (["actor.model_name_or_path=null"], r"actor\.model_name_or_path: not set"),
        (["data.prompt_dataset=no_such.jsonl"], r"data\.prompt_dataset: no_such\.jsonl does not exist"),
        (["eval.dataset=no_such.jsonl"], r"eval\.dataset: no_such\.jsonl does not exist"),
        (["data.prompt_dataset=null"], r"data\.prompt_dataset: not set"),
        (["data.input_key=question"], r"data\.input_key: 'question' is no column .*datasource, input, label"),
        (["data.label_key=gold"], r"data\.label_key: 'gold' is no column"),
        (["reward.remote_url=null", "eval.dataset=null"], r"reward\.remote_url: not set"),
        (["reward.remote_url=no_such.py"], r"reward\.remote_url: no_such\.py does not exist"),
        (["ds.zero_stage=3", "actor.num_gpus_per_node=2"], r"ds\.zero_stage: 3 with 2 policy workers .* NaN"),
        (["vllm.sync_backend=nccl"], r"vllm\.sync_backend: got nccl, expected gloo on CPU"),
        (["train.colocate_all=true", "vllm.enable_sleep=true"], r"vllm\.enable_sleep: not on CPU"),
    ],
)
def test_what_cannot_work_is_refused(check, overrides, message):
    with pytest.raises((PreflightError, OptionError, ValueError), match=message):
        check(*overrides)


def test_a_folder_without_a_configuration_is_no_model(check, tmp_path):
    with pytest.raises(PreflightError, match=r"holds no config\.json"):
        check(f"actor.model_name_or_path={tmp_path}")


def test_a_model_that_the_hub_does_not_give_is_refused(check, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PreflightError, match=r"nobody/nothing is no folder .* not in the hub's cache"):
        check("actor.model_name_or_path=nobody/nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"input": "1+1=", "label": "2"}\n{"input"', "line 2: not JSON"),
        ('{"input": "1+1=", "label": "2"}\n{"input": "1+2=", "label": ""}\n', "row 2|rows? .*2"),
    ],
)
def test_a_damaged_prompt_set_is_named_with_its_line(check, tmp_path, content, message):
    path = tmp_path / "damaged.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        check(f"data.prompt_dataset={path}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {'rewards': torch.zeros(1)}", "returns no `scores`; ktae needs to know"),
        ("raise KeyError('label')", r"failed on an empty response: KeyError\('label'\)"),
        ("return None", "returned None, expected a dict with `rewards`"),
    ],
)
def test_a_reward_source_that_would_fail_in_silence_is_refused(check, tmp_path, body, message):
    with pytest.raises(PreflightError, match=message):
        check(reward_file(tmp_path, body))


def test_scores_are_needed_by_ktae_only(check, tmp_path):
    check(reward_file(tmp_path, "return {'rewards': torch.zeros(1)}"), "advantage.terms=[]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def reward_func(:\n", r"rewards\.py, line 1, cannot be imported: SyntaxError"),
        ("import torch\nimport no_such_package\n", r"rewards\.py, line 2, cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_reward_file_that_cannot_be_imported_is_named_with_its_line(check, tmp_path, text, message):
    (tmp_path / "rewards.py").write_text(text)
    with pytest.raises(PreflightError, match=message):
        check(f"reward.remote_url={tmp_path / 'rewards.py'}")


def test_the_documented_sum_of_rewards_passes_with_the_verifier_of_the_task(check, tmp_path):
    documented = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    (tmp_path / "rewards.py").write_text(re.findall(r"```python\n(from openrlhf_ktae.*?)```", documented, re.DOTALL)[0])
    check(f"reward.remote_url={tmp_path / 'rewards.py'}")
    assert TASK_VARIABLE not in os.environ


def test_a_file_without_a_reward_function_is_refused(check, tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    with pytest.raises(PreflightError, match="defines no reward_func"):
        check(f"reward.remote_url={path}")


def test_local_paths_are_absolute_for_workers_elsewhere(check, assets, monkeypatch):
    monkeypatch.chdir(assets)
    args = check("actor.model_name_or_path=./model", "data.prompt_dataset=./train.jsonl")
    assert Path(args.actor.model_name_or_path).is_absolute()
    assert json.loads(Path(args.data.prompt_dataset).read_text().splitlines()[0])["datasource"] == "arithmetic"


def test_a_file_that_is_not_utf_8_is_named(check, assets, tmp_path):
    path = tmp_path / "latin.jsonl"
    good = (assets / "train.jsonl").read_bytes()
    path.write_bytes(good + '{"input": "caf\u00e9"}'.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"latin\.jsonl is not UTF-8"):
        check(f"data.prompt_dataset={path}")


@pytest.fixture
def brings_code(assets, tmp_path):
    """A copy of the model that brings code, named in ``file``."""

    def made(file="config.json"):
        model = tmp_path / "with_code"
        shutil.copytree(assets / "model", model)
        settings = json.loads((model / file).read_text()) | {"auto_map": {"AutoModel": "modeling_mine.Mine"}}
        (model / file).write_text(json.dumps(settings))
        (model / "modeling_mine.py").write_text("raise SystemExit('code of the model ran')")
        return model

    return made


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_a_model_brings_runs_only_on_request(check, brings_code, file):
    model = brings_code(file)
    with pytest.raises(PreflightError, match=rf"actor\.model_name_or_path: .* brings code .* \({file}: auto_map\)"):
        check(f"actor.model_name_or_path={model}")
    check(f"actor.model_name_or_path={model}", "run.trust_remote_code=true")


REWARD_MODEL = ["reward.remote_url=null", "eval.dataset=null", "advantage.terms=[]"]
OTHER_MODELS = {
    "reward.model_name_or_path": REWARD_MODEL,
    "critic.model_name_or_path": ["algo.advantage.estimator=gae", "advantage.terms=[]"],
}


@pytest.mark.parametrize("option", OTHER_MODELS)
def test_every_model_that_openrlhf_loads_is_checked(check, assets, brings_code, option):
    others = OTHER_MODELS[option]
    check(*others, f"{option}={assets / 'model'}")
    with pytest.raises(PreflightError, match=rf"{option}: runs/no/such/model is no model folder"):
        check(*others, f"{option}=runs/no/such/model")
    model = brings_code()
    with pytest.raises(PreflightError, match=rf"{option}: .* brings code of its own"):
        check(*others, f"{option}={model}")
    check(*others, f"{option}={model}", "run.trust_remote_code=true")


def test_a_model_that_is_not_loaded_is_not_checked(check, brings_code):
    model = brings_code()
    check(f"reward.model_name_or_path={model}", f"critic.model_name_or_path={model}")


def test_two_reward_models_are_refused_since_openrlhf_loads_one(check, assets):
    two = f"{assets / 'model'},{assets / 'model'}"
    with pytest.raises(PreflightError, match=r"reward\.model_name_or_path: .*OpenRLHF loads one reward model"):
        check(*REWARD_MODEL, f"reward.model_name_or_path={two}")


@pytest.mark.parametrize("estimator", ["group_norm", "gae"])
def test_a_run_without_any_reward_is_refused(check, estimator):
    with pytest.raises((PreflightError, OptionError), match=r"reward\.model_name_or_path|a required one is missing"):
        check(*REWARD_MODEL, f"algo.advantage.estimator={estimator}")
