"""``openrlhf-ktae options`` and the completion of options and recipes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ktae.openrlhf_options import known_options
from openrlhf_ktae.recipe import SECTIONS, resolve
from openrlhf_ktae.runs.options import Option, all_options, describe, matching, options_command, recipe_settings

ROOT = Path(__file__).resolve().parents[2]


def test_every_option_is_there_once_with_a_meaning_for_ours():
    options = {option.name: option for option in all_options()}
    assert len(options) == len(all_options())
    assert set(known_options()) <= set(options)
    ours = [option for name, option in options.items() if name not in known_options()]
    assert {option.name.split(".")[0] for option in ours} > {*SECTIONS, "ktae", "arithmetic"}
    assert [option.name for option in ours if not option.meaning] == []
    assert options["ktae.scale"].default == 1.0 and options["actor.adam.lr"].default == 1e-6


def test_values_of_recipes_stand_beside_an_option(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = recipe_settings()
    lr = next(option for option in all_options() if option.name == "actor.adam.lr")
    shown = describe(lr, settings)
    value = resolve("recipes/quickstart").settings()["actor.adam.lr"]
    assert shown.startswith("actor.adam.lr  (default: 1e-06)") and f"{value} in " in shown
    few = {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 2}}
    assert describe(Option("x", None, "what  it\nis", (1, 2)), few).split("\n") == [
        "x  (default: none)", "    what it is One of 1, 2.", "    1 in a, b", "    2 in c"
    ]  # fmt: skip


def test_names_come_before_meanings():
    options = [Option("a.b", 0, "about c"), Option("c.d", 0, "")]
    assert [option.name for option in matching(options, "C")] == ["c.d", "a.b"]


def test_an_unknown_word_is_refused_with_the_nearest_name(capsys):
    assert options_command("scael") == 2
    assert "did you mean scale" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("openrlhf-ktae train recipes/quick", "recipes/quickstart"),
        ("openrlhf-ktae doctor recipes/cpu_grpo_", "recipes/cpu_grpo_ktae"),
        ("openrlhf-ktae train recipes/quickstart --set ktae.sc", "ktae.scale="),
        ("openrlhf-ktae train recipes/quickstart --set actor.adam.l", "actor.adam.lr="),
    ],
)
def test_the_shell_completes_recipes_and_options(words, found):
    completion = {"_OPENRLHF_KTAE_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment = os.environ | completion | {"COMP_CWORD": str(len(words.split()) - 1)}
    code = "from openrlhf_ktae.cli import app; app(prog_name='openrlhf-ktae')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert found in done.stdout.split(), done
