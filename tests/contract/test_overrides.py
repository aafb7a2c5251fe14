"""What a run replaces of other packages stands in one list, and upstream looks it up where the list says."""

import ast
import importlib
import sys
from pathlib import Path

import openrlhf_parts
import pytest

from openrlhf_ktae.training.overrides import OVERRIDES, Override, install

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"overrides.py", "cpu.py", "cpu_vllm_worker.py", "attention.py"}
"""The list, and what a machine without a GPU or without flash-attn needs (the worker is vLLM's own process)."""


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: f"{override.module}.{override.name}")
def test_upstream_looks_the_name_up_where_the_list_says(override: Override):
    path, _, line = override.upstream.partition(":")
    package = Path(importlib.import_module(override.module.partition(".")[0]).__path__[0])
    lines = (package / path).read_text().splitlines()
    assert override.name in lines[int(line) - 1]
    assert hasattr(importlib.import_module(override.module), override.name)
    module, _, name = override.ours.partition(":")
    assert hasattr(importlib.import_module(module), name)


def test_an_override_is_in_place_once_installed(monkeypatch):
    chosen = [override for override in OVERRIDES if override.process == "trainer"]
    for override in chosen:
        module = importlib.import_module(override.module)
        monkeypatch.setattr(module, override.name, getattr(module, override.name))  # put back afterwards
    options = openrlhf_parts.training_options(("ktae",))
    install("trainer", options)
    for override in chosen:
        made = getattr(importlib.import_module(override.module), override.name)
        assert made.keywords == {"options": options} and made.func.__name__ == override.ours.partition(":")[2]


def assignments_to_others(tree: ast.AST) -> list[str]:
    """Assignments to an attribute of something that was imported from another package, `setattr` included."""
    foreign = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(alias.asname or alias.name, node.module or "") for alias in node.names]
        else:
            continue
        ours = {"openrlhf_ktae", "eval", *sys.stdlib_module_names}
        foreign |= {name for name, module in names if module.partition(".")[0] not in ours}
    found = []
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
            targets = [ast.Attribute(node.args[0], "")]
        for target in targets:
            root = target
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(target, ast.Attribute) and isinstance(root, ast.Name) and root.id in foreign:
                found.append(ast.unparse(target))
            if isinstance(target, ast.Attribute) and isinstance(root, ast.Call):
                found.append(ast.unparse(target))  # setattr(importlib.import_module(..), ..)
    return found


SOURCES = [path for folder in ("openrlhf_ktae", "eval") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_assigns_to_another_package(path):
    # An adapter puts the estimator into another trainer, that is its purpose; no run of ours imports it.
    if path.name not in ALLOWED and "adapters" not in path.parts:
        assert assignments_to_others(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.cuda.set_device = print",
        "import openrlhf.trainer.ppo_trainer as upstream\nupstream.PPOTrainer = Ours",
        "from openrlhf.trainer import ppo_trainer\nppo_trainer.PPOTrainer: type = Ours",
        "from openrlhf.models import Actor\nActor.__init__ = ours",
        "import torch\nsetattr(torch, 'load', ours)",
        "import importlib\nsetattr(importlib.import_module('torch'), 'load', ours)",
    ],
)
def test_the_search_finds_every_form(code):
    assert len(assignments_to_others(ast.parse(code))) == 1


def test_the_list_itself_would_be_found():
    for name in ALLOWED:
        path = ROOT / "openrlhf_ktae" / "training" / name
        assert assignments_to_others(ast.parse(path.read_text(encoding="utf-8"))), name
