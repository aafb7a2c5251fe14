"""From YAML layers to one checked configuration and OpenRLHF's command line: the one place that knows how they merge.

A recipe names fragments of ``configs/`` and says what differs. All options live in one tree: OpenRLHF's under
OpenRLHF's own names, ours in sections: ``run.``, ``engine.``, ``grader.``, ``advantage.``, ``policy_loss.``, a section
for every advantage term, policy loss and task.

Layers, later ones win: ``configs/base.yaml``, the fragments, the recipe, ``--set key=value``. Two fragments that set
the same option are an error: the recipe has to say which one holds.
"""

import difflib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from openrlhf_ktae.advantage.term import TERM, sampling_of
from openrlhf_ktae.advantage.terms import TERMS
from openrlhf_ktae.config import (
    AdvantageOptions,
    EngineOptions,
    Options,
    PolicyLossOptions,
    RewardConfig,
    RunOptions,
    TaskOptions,
)
from openrlhf_ktae.losses import LOSSES
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.openrlhf_options import check, known_options, nearest, to_argv
from openrlhf_ktae.plugins import Kind, PluginError, is_path, section_of
from openrlhf_ktae.tasks import TASKS
from openrlhf_ktae.tasks.task import TASK, BaseTask

SECTIONS: dict[str, type[Options]] = {
    "run": RunOptions,
    "engine": EngineOptions,
    "grader": RewardConfig,
    "advantage": AdvantageOptions,
    "policy_loss": PolicyLossOptions,
    "task": TaskOptions,
}
"""Sections that are there in every run, beside those of its terms, its policy loss and its task."""

PACKAGE = Path(__file__).resolve().parent

RECIPE_FILE = "recipe.yaml"
"""In a recipe's folder: what the folder stands for."""


class RecipeError(ValueError):
    """A recipe that cannot be resolved; the message names the option and the file."""


@dataclass(frozen=True)
class Setting:
    """A value and the layer that said it."""

    value: Any
    source: str


@dataclass(frozen=True)
class RunConfig:
    """A resolved recipe. ``openrlhf`` holds values that may still contain ``${run}``; see `openrlhf_argv`."""

    recipe: str
    """A folder with its recipe.yaml, or another file; as it was given, if that has a name."""
    openrlhf: dict[str, Any]
    sections: dict[str, Options]
    """Our options by section: those of every run, of the terms and the loss that are used, and what a layer sets."""
    sources: dict[str, str]

    @property
    def run(self) -> RunOptions:
        """Section ``run``."""
        return self.sections["run"]  # pyright: ignore[reportReturnType]

    @property
    def grader(self) -> RewardConfig:
        """Section ``grader``."""
        return self.sections["grader"]  # pyright: ignore[reportReturnType]

    @property
    def terms(self) -> tuple[str, ...]:
        """The advantage terms in their order: names, or absolute paths."""
        return self.sections["advantage"].terms  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def policy_loss(self) -> str:
        """The policy loss: a name, or an absolute path."""
        return self.sections["policy_loss"].name  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def task(self) -> str:
        """The task: a name, or an absolute path."""
        return self.sections["task"].name  # pyright: ignore[reportAttributeAccessIssue]

    def make_task(self) -> BaseTask:
        """The task of the run, with its options and the grader's."""
        made = TASK.load(self.task)
        return made(self.sections.get(section_of(self.task)) or made.Options(), self.grader)

    def sampling(self) -> tuple[str, str]:
        """How the rollouts of a prompt are sampled, and which option says so (`sampling_of`)."""
        return sampling_of(self.terms, self.task, self.make_task().sampling)

    @property
    def name(self) -> str:
        """The run's name in its folder, plots and tables."""
        recipe = Path(self.recipe)
        return self.run.name or (recipe.stem if recipe.suffix == ".yaml" else recipe.name)

    def openrlhf_settings(self, run_dir: Path | str) -> dict[str, Any]:
        """OpenRLHF's options with ``${run}`` and ``${package}`` filled in and local paths made absolute."""
        places = {"run": str(Path(run_dir).resolve()), "package": str(PACKAGE)}
        return {name: _absolute(name, _fill(name, value, places)) for name, value in self.openrlhf.items()}

    def openrlhf_argv(self, run_dir: Path | str) -> list[str]:
        """OpenRLHF's command line for a run in ``run_dir``, checked by OpenRLHF's own parser.

        Raises:
            OptionError: OpenRLHF does not accept it.
        """
        argv = to_argv(self.openrlhf_settings(run_dir))
        check(argv)
        return argv

    def described(self, run_dir: Path | str) -> dict[str, dict[str, Any]]:
        """Every option of a run in ``run_dir``, by section: ``config`` in its run.json."""
        ours = {name: json.loads(options.model_dump_json()) for name, options in self.sections.items()}
        return {"openrlhf": self.openrlhf_settings(run_dir)} | ours

    def settings(self) -> dict[str, Any]:
        """Every option by name, ours with their defaults; what ``--dry-run`` prints."""
        flat = dict(self.openrlhf)
        for section, options in self.sections.items():
            flat |= {f"{section}.{name}": value for name, value in options.model_dump().items()}
        return flat


def _fill(name: str, value: Any, places: Mapping[str, str]) -> Any:
    if not isinstance(value, str) or "$" not in value:
        return value
    try:
        return string.Template(value).substitute(places)
    except (KeyError, ValueError):
        known = ", ".join(f"${{{place}}}" for place in places)
        raise RecipeError(f"{name}: {value!r} holds an unknown placeholder; known: {known}") from None


_PATH_OPTIONS = ("dataset", "model_name_or_path", "remote_url", "agent_func_path")
"""Ends of the names of options that may hold a path without a slash."""


def _absolute(name: str, value: Any) -> Any:
    """Paths that exist here, made absolute: Ray's workers may stand in another folder. Several are split by commas."""
    if not isinstance(value, str) or ("/" not in value and not name.endswith(_PATH_OPTIONS)):
        return value
    return ",".join(str(Path(part).resolve()) if Path(part).exists() else part for part in value.split(","))


def _flatten(tree: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Setting]:
    flat: dict[str, Setting] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        is_tree = isinstance(value, Mapping)
        inner = _flatten(value, source, f"{name}.") if is_tree else {name: Setting(value, source)}
        for twice in flat.keys() & inner.keys():
            raise RecipeError(f"{twice}: said twice in {source}")
        flat |= inner
    return flat


def _read_yaml(path: Path, what: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{what}: {path} does not exist") from None
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{what}: {path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{what}: {path} holds a {type(tree).__name__}, expected options")
    return tree


def _configs_folder(recipe: Path) -> Path:
    for folder in recipe.resolve().parents:
        if (folder / "configs" / "base.yaml").is_file():
            return folder / "configs"
    raise RecipeError(f"recipe: no configs/base.yaml in any folder above {recipe}; keep recipes/ beside configs/")


def parse_assignment(text: str) -> tuple[str, Any]:
    """``key=value`` of the command line; the value is read as YAML, so 1e-6 is a number and [1, 2] a list."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise RecipeError(f"--set: got {text!r}, expected key=value")
    try:
        parsed = yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {name}: {value!r} is not a YAML value: {error}") from None
    return name.strip(), _number(parsed)


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-6 (without a dot) as text.
    if isinstance(value, str):
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return [_number(item) for item in value] if isinstance(value, list) else value


def _merge(recipe_file: Path, overrides: list[str]) -> dict[str, Setting]:
    configs = _configs_folder(recipe_file)
    tree = _read_yaml(recipe_file, "recipe")
    names = tree.pop("fragments", [])
    if not isinstance(names, list):
        raise RecipeError(f"fragments: got {names!r} in {recipe_file}, expected a list such as [model/tiny]")
    fragments: dict[str, Setting] = {}
    for name in names:
        source = f"configs/{name}.yaml"
        fragment = _flatten(_read_yaml(configs / f"{name}.yaml", f"fragment {name}"), source)
        own = _flatten(tree, "recipe")
        for twice in sorted(fragments.keys() & fragment.keys() - own.keys()):
            raise RecipeError(f"{twice}: said by {fragments[twice].source} and {source}; say it in the recipe")
        fragments |= fragment
    merged = _flatten(_read_yaml(configs / "base.yaml", "base"), "configs/base.yaml") | fragments
    merged |= _flatten(tree, f"{recipe_file.parent.name}/{recipe_file.name}")
    merged |= {name: Setting(value, "--set") for name, value in map(parse_assignment, overrides)}
    return merged


def _section(name: str, model: type[Options], settings: dict[str, Setting]) -> Options:
    values = {key.removeprefix(f"{name}."): setting for key, setting in settings.items() if key.startswith(f"{name}.")}
    try:
        return model(**{key: _number(setting.value) for key, setting in values.items()})
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        field = str(details["loc"][0]) if details["loc"] else ""
        if details["type"] == "extra_forbidden":
            names = [f"{name}.{known}" for known in model.model_fields]
            raise RecipeError(f"{name}.{field}: unknown option{nearest(f'{name}.{field}', names)}") from None
        source = f" in {values[field].source}" if field in values else ""
        label = f"{name}.{field}: got {details['input']!r}{source}: " if field else ""
        raise RecipeError(f"{label}{details['msg'].removeprefix('Value error, ')}") from None


def _local(source: str, recipe: Path) -> str:
    """A method's file, absolute: looked for where the command runs, then beside the recipe."""
    if not is_path(source):
        return source
    places = [Path.cwd() / source, recipe / source]
    return str(next((place for place in places if place.is_file()), places[0]).resolve())


def _methods(recipe: Path, settings: dict[str, Setting]) -> dict[str, Options]:
    """The sections ``advantage``, ``policy_loss`` and ``task``, and those of what they name."""
    advantage = _section("advantage", AdvantageOptions, settings)
    terms = [_local(term, recipe) for term in advantage.terms]  # pyright: ignore[reportAttributeAccessIssue]
    policy_loss = _section("policy_loss", PolicyLossOptions, settings)
    loss = _local(policy_loss.name, recipe)  # pyright: ignore[reportAttributeAccessIssue]
    chosen = _section("task", TaskOptions, settings)
    task = _local(chosen.name, recipe)  # pyright: ignore[reportAttributeAccessIssue]
    used: list[tuple[Kind, str]] = [*((TERM, term) for term in terms), (LOSS, loss), (TASK, task)]
    # Options of a method that is not used are checked all the same: they wait for being switched on.
    named = {name.partition(".")[0] for name in settings}
    ours = ((TERM, TERMS), (LOSS, LOSSES), (TASK, TASKS))
    unused = [(kind, name) for kind, names in ours for name in names if name in named]
    sections: dict[str, Options] = {
        "advantage": advantage.model_copy(update={"terms": tuple(terms)}),
        "policy_loss": policy_loss.model_copy(update={"name": loss}),
        "task": chosen.model_copy(update={"name": task}),
    }
    for kind, source in dict.fromkeys([*used, *unused]):
        name = section_of(source)
        if is_path(source) and (name in SECTIONS or any(name in names for _, names in ours)):
            raise RecipeError(f"{kind.option}: {source}: {name} is a section already; give the file another name")
        try:
            model = kind.load(source).Options
        except PluginError as error:
            raise RecipeError(str(error)) from error
        if model.model_fields:
            sections[name] = _section(name, model, settings)
    return sections


def known_recipes() -> list[Path]:
    """The recipes that a person may mean: those below recipes/ here, else those of this checkout."""
    folder = next((f for f in (Path("recipes"), PACKAGE.parent / "recipes") if f.is_dir()), None)
    return sorted(file.parent for file in folder.glob(f"*/{RECIPE_FILE}")) if folder else []


def _nearest_recipe(path: Path) -> str:
    by_name = {recipe.name: str(recipe) for recipe in known_recipes()}
    close = difflib.get_close_matches(path.stem if path.suffix == ".yaml" else path.name, by_name, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(by_name[name] for name in close)}?" if close else ""


def resolve(recipe: Path | str, overrides: list[str] | None = None) -> RunConfig:
    """Reads a recipe (its folder or its file) and resolves it with ``--set`` overrides.

    Raises:
        RecipeError: the recipe or a fragment is missing or malformed, or an option of ours is unknown or out of range.
        OptionError: an option that OpenRLHF does not know.
    """
    path = Path(recipe)
    recipe_file = path / RECIPE_FILE if path.is_dir() or path.suffix != ".yaml" else path
    if not recipe_file.is_file():
        raise RecipeError(f"recipe: {recipe_file} does not exist (looked in {Path.cwd()}){_nearest_recipe(path)}")
    if recipe_file.parent.name in ("", ".."):  # such as `.`, which says nothing elsewhere
        recipe_file = recipe_file.resolve()
    merged = _merge(recipe_file, overrides or [])
    sections = _methods(recipe_file.parent, merged)
    for name, model in SECTIONS.items():
        is_set = any(key.startswith(f"{name}.") for key in merged)
        if name not in sections and (is_set or name in ("run", "engine", "grader")):
            sections[name] = _section(name, model, merged)
    theirs = {k: _number(v.value) for k, v in merged.items() if k.partition(".")[0] not in sections}
    for name in theirs:
        if name not in known_options():
            ours = [f"{section}.{field}" for section, made in sections.items() for field in type(made).model_fields]
            hint = nearest(name, [*known_options(), *ours])
            raise RecipeError(f"{name}: unknown option{hint} (said in {merged[name].source})")
    return RunConfig(
        recipe=str(recipe_file.parent if recipe_file.name == RECIPE_FILE else recipe_file),
        openrlhf=theirs,
        sections=sections,
        sources={name: setting.source for name, setting in merged.items()},
    )
