"""What ``--resume`` takes over from a run, and what it refuses."""

import re
import shutil
from pathlib import Path

import pytest

from openrlhf_ktae.files import write_json
from openrlhf_ktae.run_folder import FORMAT, RunFolder
from openrlhf_ktae.runs.command import train_command
from openrlhf_ktae.runs.plan import plan_run

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (folder.path / "checkpoints" / "_actor" / "global_step10").mkdir(parents=True)
    (folder.path / "checkpoints" / "_actor" / "latest").write_text("global_step10")
    config = {"openrlhf": {"ckpt.path": str(folder.path / "checkpoints")}}
    write_json(
        folder.run_json,
        {
            "format": FORMAT,
            "recipe": "/elsewhere/recipes/quickstart",
            "config": config,
            "overrides": ["ktae.scale=0", "train.seed=7"],
        },
    )
    (tmp_path / "latest").symlink_to("run")
    return folder


def test_a_run_goes_on_with_its_own_settings_unless_they_are_set_anew(run, capsys):
    code = train_command(QUICKSTART, ["train.seed=8"], dry_run=True, resume=run.path.parent / "latest")
    said = capsys.readouterr().out
    assert code == 0
    assert "ktae.scale: 0" in said and "train.seed: 8  # --set" in said
    # The link is followed: the run sets it anew.
    assert f"ckpt.path {run.path}/checkpoints" in said


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: run.run_json.unlink(), "holds no run.json"),
        (lambda run: run.update(format=0), "has format 0"),
        (lambda run: (run.path / "checkpoints/_actor/latest").unlink(), "holds no checkpoint to go on from"),
    ],
)
def test_what_cannot_be_resumed_is_refused_before_anything_is_changed(run, harm, message, capsys):
    harm(run)
    before = sorted(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert train_command(QUICKSTART, [], dry_run=False, resume=run.path) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(path.read_bytes() for path in run.path.rglob("*") if path.is_file()) == before


def test_a_run_does_not_go_on_with_another_recipe(run, capsys):
    assert train_command(QUICKSTART.parent / "cpu_grpo_ktae", [], dry_run=True, resume=run.path) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "was started from /elsewhere/recipes/quickstart, not from" in said


@pytest.fixture
def recipes(tmp_path):
    """A folder with the recipes R/recipe.yaml and R/other.yaml, and recipes/flat.yaml."""
    shutil.copytree(QUICKSTART.parents[1] / "configs", tmp_path / "configs")
    for name in ("R/recipe.yaml", "R/other.yaml", "flat.yaml"):
        file = tmp_path / "recipes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(QUICKSTART / "recipe.yaml", file)
    return tmp_path / "recipes"


@pytest.mark.parametrize(
    ("before", "named", "goes_on"),
    [
        ("/elsewhere/recipes/R", "R", True),
        ("recipes/R", "R/recipe.yaml", True),
        ("/elsewhere/recipes/R/other.yaml", "R/other.yaml", True),
        ("recipes/R/other.yaml", "R", False),
        ("recipes/R", "R/other.yaml", False),
        ("recipes/S/other.yaml", "R/other.yaml", False),
        # As versions before noted it: R/other.yaml as R, and a recipe's own folder as a dot.
        ("recipes", "flat.yaml", True),
        (".", "R", True),
    ],
)
def test_a_run_goes_on_with_the_file_it_was_started_from(run, recipes, capsys, before, named, goes_on):
    run.update(recipe=before)
    assert train_command(recipes / named, [], dry_run=True, resume=run.path) == (0 if goes_on else 2)
    assert ("was started from" in " ".join(capsys.readouterr().err.split())) != goes_on


def test_a_run_that_was_started_in_its_recipes_folder_goes_on_from_anywhere(run, recipes, monkeypatch):
    monkeypatch.chdir(recipes / "R")
    plan = plan_run(Path("."), [], None)
    assert re.fullmatch(r"R-\d{8}-\d{6}", plan.folder.path.name)
    run.update(recipe=plan.config.recipe)
    monkeypatch.chdir(recipes.parent)
    for named in (plan.config.recipe, "recipes/R", "recipes/R/recipe.yaml"):
        assert plan_run(Path(named), [], run.path).config.name == "R"
