"""The layers of the code base, read from its imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openrlhf_ktae"

# What a layer may import of this package; `command` stands for the modules that only cli.py reaches.
ALLOWED = {
    "config": set(),
    "openrlhf_options": set(),
    "files": set(),
    "hub": set(),
    "table_files": set(),
    "versions": set(),
    "ray_address": set(),
    "engine_size": set(),
    "cpu_vllm": set(),
    "generation": {"cpu_vllm", "engine_size", "ray_address", "generation"},
    "intervals": set(),
    "run_folder": {"files"},
    "processes": set(),
    "fork_client": set(),
    "forks": {"fork_client"},
    "checkpoints": {"files", "run_folder"},
    "plugins": {"config", "openrlhf_options"},
    "recipe": {"config", "openrlhf_options", "plugins", "advantage", "losses", "tasks"},
    "advantage": {"config", "plugins", "advantage"},
    "losses": {"config", "plugins", "table_files", "losses"},
    "adapters": {"advantage"},
    "reward": {"config", "reward"},
    "tasks": {"config", "files", "hub", "table_files", "plugins", "reward", "tasks"},
    "sweep": {"config", "files", "recipe", "run_folder", "checkpoints", "plugins", "tasks", "sweep"},
    "report": {"config", "checkpoints", "files", "intervals", "run_folder", "advantage", "sweep", "report"},
    "runs": {
        "cpu_vllm",
        "config",
        "files",
        "hub",
        "table_files",
        "versions",
        "generation",
        "openrlhf_options",
        "plugins",
        "recipe",
        "run_folder",
        "checkpoints",
        "forks",
        "processes",
        "engine_size",
        "ray_address",
        "advantage",
        "losses",
        "reward",
        "tasks",
        "report",
        "sweep",
        "runs",
    },
    "training": {
        "config",
        "cpu_vllm",
        "files",
        "plugins",
        "run_folder",
        "checkpoints",
        "fork_client",
        "forks",
        "processes",
        "engine_size",
        "ray_address",
        "advantage",
        "losses",
        "reward",
        "tasks",
        "training",
    },
    "cli": {"config", "recipe", "advantage", "reward", "tasks", "report", "runs"},
    "eval": {
        "config",
        "generation",
        "files",
        "hub",
        "table_files",
        "versions",
        "intervals",
        "ray_address",
        "reward",
        "tasks",
        "eval",
    },
}
STACK = {"ray", "vllm", "deepspeed", "openrlhf"}
MAY_IMPORT_STACK = {
    "training": STACK,
    "runs": {"deepspeed"},
    "generation": {"ray", "vllm"},
    "engine_size": {"vllm"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(path: Path) -> str:
    if path.is_relative_to(ROOT / "eval"):
        return "eval"
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


SOURCES = sorted(
    path for folder in (PACKAGE, ROOT / "eval") for path in folder.rglob("*.py") if path != PACKAGE / "__init__.py"
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_the_layers_below_it(path):
    layer = layer_of(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("openrlhf_ktae.")}
    ours |= {"eval" for name in imports(path) if name.split(".")[0] == "eval"}
    assert ours - {"__version__"} <= ALLOWED[layer], f"{layer} may not import {ours - ALLOWED[layer]}"
    stack = {name.split(".")[0] for name in imports(path)} & STACK
    assert stack <= MAY_IMPORT_STACK.get(layer, set()), f"{layer} may not import {stack}"


@pytest.mark.parametrize("module", ["openrlhf_ktae.recipe", "openrlhf_ktae.cli", "openrlhf_ktae.config"])
def test_light_modules_import_neither_torch_nor_ray(module):
    heavy = ("torch", "ray", "vllm", "deepspeed", "transformers", "openrlhf.trainer")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert output.stdout.strip() == "[]"
