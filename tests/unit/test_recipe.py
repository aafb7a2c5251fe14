"""How YAML layers merge into one configuration."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from openrlhf_ktae.openrlhf_options import OptionError
from openrlhf_ktae.recipe import RecipeError, parse_assignment, resolve

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart"


@pytest.fixture
def project(tmp_path):
    """A project of one recipe; call it with the layers that differ."""

    def make(recipe: dict, base: dict | None = None, **fragments: dict) -> Path:
        configs = tmp_path / "configs"
        configs.mkdir(exist_ok=True)
        (configs / "base.yaml").write_text(yaml.safe_dump(base or {}))
        for name, content in fragments.items():
            (configs / f"{name}.yaml").write_text(yaml.safe_dump(content))
        folder = tmp_path / "recipes" / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return folder

    return make


def test_later_layers_win(project):
    folder = project(
        {"fragments": ["model"], "actor.adam.lr": 3e-6},
        base={"actor": {"adam": {"lr": 1e-6}}, "train.seed": 1},
        model={"train": {"seed": 2}, "ktae": {"alpha": 0.0}},
    )
    config = resolve(folder, ["ktae.gamma=0.5"])
    assert config.openrlhf == {"actor.adam.lr": 3e-6, "train.seed": 2}
    assert (config.sections["ktae"].alpha, config.sections["ktae"].gamma) == (0.0, 0.5)
    assert config.sources["train.seed"] == "configs/model.yaml"
    assert config.sources["ktae.gamma"] == "--set"


def test_a_recipe_is_called_by_its_folder_wherever_the_command_runs(project, monkeypatch):
    folder = project({})
    assert (resolve(folder).recipe, resolve(folder).name) == (str(folder), "mine")
    assert resolve(folder / "recipe.yaml").recipe == str(folder)
    monkeypatch.chdir(folder)
    for said in (".", "recipe.yaml", "../mine", "../mine/../mine/."):
        config = resolve(said)
        assert (config.name, Path(config.recipe).resolve()) == ("mine", folder)
        assert Path(config.recipe).name == "mine"  # of a run.json, read elsewhere
    (folder / "a").mkdir()
    monkeypatch.chdir(folder / "a")
    assert (resolve("..").recipe, resolve("..").name) == (str(folder), "mine")


def test_another_file_beside_a_recipe_is_another_recipe(project, monkeypatch):
    folder = project({"train.seed": 1})
    (folder / "other.yaml").write_text("train.seed: 2")
    config = resolve(folder / "other.yaml")
    assert (config.recipe, config.name, config.openrlhf) == (str(folder / "other.yaml"), "other", {"train.seed": 2})
    assert resolve(config.recipe).openrlhf == config.openrlhf
    monkeypatch.chdir(folder)
    assert resolve("other.yaml").recipe == str(folder / "other.yaml")


def test_two_fragments_that_say_the_same_are_refused_unless_the_recipe_decides(project):
    fragments = {"a": {"train.seed": 1}, "b": {"train": {"seed": 2}}}
    with pytest.raises(RecipeError, match=r"train\.seed: said by configs/a\.yaml and configs/b\.yaml"):
        resolve(project({"fragments": ["a", "b"]}, **fragments))
    assert resolve(project({"fragments": ["a", "b"], "train.seed": 3}, **fragments)).openrlhf == {"train.seed": 3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ktae.apha=1"], r"ktae\.apha: unknown option; did you mean ktae\.alpha"),
        (["adam.lr=1"], r"adam\.lr: unknown option; did you mean .*actor\.adam\.lr.*said in --set"),
        (["scale=1"], r"did you mean ktae\.scale"),
        (["ktae.alpha=-1"], r"ktae\.alpha: got -1 in --set"),
        (["ktae.alpha=0", "ktae.beta=0"], r"ktae\.alpha \+ ktae\.beta must be positive"),
        (["ktae.scale"], "expected key=value"),
        (["ktae.scale=[1"], "not a YAML value"),
        (["run.device=tpu"], r"run\.device: got 'tpu'"),
        (["actor={adam.lr: 1}"], "actor: unknown option"),
    ],
)
def test_a_bad_override_is_one_clear_error(overrides, message):
    with pytest.raises((RecipeError, OptionError), match=message):
        resolve(QUICKSTART, overrides)


def test_numbers_without_a_dot_are_numbers():
    assert parse_assignment("actor.adam.lr=2e-6") == ("actor.adam.lr", 2e-6)
    assert parse_assignment("actor.eps_clip_low_high=[0.2, 28e-2]")[1] == [0.2, 0.28]
    assert parse_assignment("data.prompt_split=train") == ("data.prompt_split", "train")
    assert parse_assignment("actor.dual_clip=null") == ("actor.dual_clip", None)


def test_missing_and_malformed_files_are_named(project, tmp_path):
    with pytest.raises(RecipeError, match=r"no-such/recipe\.yaml does not exist"):
        project({})
        resolve(tmp_path / "recipes" / "no-such")
    with pytest.raises(RecipeError, match="fragment model/none"):
        resolve(project({"fragments": ["model/none"]}))
    with pytest.raises(RecipeError, match="expected a list"):
        resolve(project({"fragments": "model"}))
    folder = project({})
    (folder / "recipe.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="is not YAML"):
        resolve(folder)
    (folder / "recipe.yaml").write_text("- a")
    with pytest.raises(RecipeError, match="holds a list, expected options"):
        resolve(folder)
    with pytest.raises(RecipeError, match=r"train\.seed: said twice"):
        resolve(project({"train": {"seed": 1}, "train.seed": 2}))
    (tmp_path / "alone").mkdir()
    (tmp_path / "configs" / "base.yaml").unlink()
    with pytest.raises(RecipeError, match=r"no configs/base\.yaml"):
        resolve(folder)


@pytest.mark.parametrize("name", ["quickstart", "quickstrat", "recipes/quickstrat"])
def test_a_recipe_that_is_not_there_is_compared_with_those_that_are(name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(RecipeError, match=r"does not exist .*did you mean recipes/quickstart\?"):
        resolve(Path(name))


def test_placeholders_become_paths(project, tmp_path):
    folder = project({"ckpt.path": "${run}/checkpoints", "reward.remote_url": "${package}/reward/math_reward.py"})
    settings = resolve(folder).openrlhf_settings(tmp_path / "run")
    assert settings["ckpt.path"] == str(tmp_path / "run" / "checkpoints")
    assert Path(settings["reward.remote_url"]).is_file()
    with pytest.raises(RecipeError, match=r"unknown placeholder; known: \$\{run\}, \$\{package\}"):
        resolve(project({"ckpt.path": "${home}/x"})).openrlhf_settings(tmp_path)


def test_a_dry_run_prints_every_option_with_its_layer_and_starts_nothing(tmp_path):
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "train", str(QUICKSTART), "--dry-run"]
    command += ["--set", "ktae.scale=0.5", "--set", f"run.output_dir={tmp_path / 'runs'}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    settings, _, argv = output.partition("# OpenRLHF's command line")
    assert "ktae.scale: 0.5  # --set" in settings
    assert yaml.safe_load(settings)["actor.adam.lr"] == resolve(QUICKSTART).openrlhf["actor.adam.lr"]
    assert "--algo.advantage.estimator group_norm" in argv
    assert not (tmp_path / "runs").exists()


def test_an_error_on_the_command_line_is_one_sentence(tmp_path):
    command = [sys.executable, "-m", "openrlhf_ktae.cli", "train", str(QUICKSTART), "--set", "actor.lr=1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert "actor.lr: unknown option" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_every_option_of_ours_is_documented():
    from openrlhf_ktae.recipe import SECTIONS

    undocumented = [
        f"{section}.{name}"
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert json.dumps(undocumented) == "[]"


def test_a_path_without_a_slash_is_made_absolute_where_an_option_holds_paths(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").touch()
    (tmp_path / "eager").touch()
    overrides = ["data.prompt_dataset=prompts.jsonl", "ds.attn_implementation=eager"]
    settings = resolve(project({}), overrides).openrlhf_settings(tmp_path)
    assert settings["data.prompt_dataset"] == str(tmp_path / "prompts.jsonl")
    assert settings["ds.attn_implementation"] == "eager"
