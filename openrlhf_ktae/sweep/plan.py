"""The file of a sweep, and the runs it asks for: every setting, arm and seed, in an order that keeps them paired."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from openrlhf_ktae.config import Options

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SEED = "${seed}"


class SweepFile(Options):
    """What is compared. An option is written as in a recipe: ``actor.adam.lr: 1.0e-4``, or nested."""

    recipe: str
    """The recipe of every run: a folder, where the command runs or beside the sweep's file."""

    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds (`train.seed`): every arm trains each, with the same prompts from the same start model. `${seed}` in an
    option's text stands for it."""

    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    """What is compared: options by the arm's name. `recipe` in them replaces the sweep's."""

    baseline: str
    """The arm that the others are compared with, seed by seed."""

    options: dict[str, Any] = Field(default={})
    """Options of every run."""

    settings: dict[str, dict[str, Any]] = Field(default={})
    """Where it is compared: options by the setting's name, such as two doses of filler. None is one setting without a
    name."""

    values: dict[str, tuple[Any, ...]] = Field(default={})
    """Lists of values of options, such as three learning rates: every combination is a setting."""

    tune_on: tuple[int, ...] = ()
    """Seeds on which every arm chooses the one of `values` that does best; the report compares the arms at these on the
    other seeds. None: no such comparison."""

    reach: tuple[float, ...] = (0.8,)
    """Accuracies of which the report says after how many steps they are reached."""

    @field_validator("arms", "settings")
    @classmethod
    def _names_are_folders(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not _NAME.fullmatch(name):
                raise ValueError(f"the name {name!r} has to work as a folder: letters, digits and . _ + -")
        return named

    @field_validator("options", "arms", "settings", "values")
    @classmethod
    def _sweep_places_its_runs(cls, options: dict[str, Any]) -> dict[str, Any]:
        if any(f".{name}".endswith(".run.output_dir") for name in _flat(options)):
            raise ValueError("run.output_dir is the sweep's own (--output); take it out")
        return options

    @field_validator("values")
    @classmethod
    def _values_are_told_apart(cls, values: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for option, several in values.items():
            names = [_text(value) for value in several]
            if not names:
                raise ValueError(f"{option} has no value; name one, or take it out")
            if not all(names) or len(set(names)) < len(names):
                raise ValueError(
                    f"the values of {option} would have the folders {names}, which have to differ and not be empty; "
                    "write them as `settings`, with names"
                )
        return values

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @model_validator(mode="after")
    def _baseline_is_an_arm(self) -> "SweepFile":
        if self.baseline not in self.arms:
            raise ValueError(f"baseline: got {self.baseline!r}, expected one of the arms: {', '.join(self.arms)}")
        return self

    @model_validator(mode="after")
    def _some_seeds_choose_and_some_are_measured(self) -> "SweepFile":
        if not self.tune_on:
            return self
        if not self.values:
            raise ValueError("tune_on: there is nothing to choose from; name `values`, or take it out")
        if not set(self.tune_on) < set(self.seeds):
            raise ValueError(
                f"tune_on: got {list(self.tune_on)}, expected some of the seeds {list(self.seeds)}, and not all of them"
            )
        return self


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    setting: str
    """Empty where there is one setting without a name."""
    arm: str
    seed: int
    recipe: str
    overrides: tuple[str, ...]
    """``key=value``, as ``openrlhf-ktae train --set`` takes them."""

    @property
    def name(self) -> str:
        """Its folder below the sweep's ``runs/``."""
        return "/".join(part for part in (self.setting, self.arm, f"seed-{self.seed}") if part)


def read_sweep(path: Path) -> SweepFile:
    """Reads a sweep's file.

    Raises:
        ValueError: what is wrong in it.
    """
    if not path.is_file():
        raise ValueError(f"sweep: {path} does not exist (looked in {Path.cwd()})")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"sweep: {path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"sweep: {path} holds a {type(tree).__name__}, expected recipe, seeds, arms and baseline")
    try:
        return SweepFile(**tree)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        where = ".".join(map(str, details["loc"]))
        raise ValueError(
            f"sweep: {path}: {f'{where}: ' if where else ''}{details['msg'].removeprefix('Value error, ')}"
        ) from None


def value_labels(sweep: SweepFile) -> list[str]:
    """What the lists of values are called: the option's last part, or all of it where two share that."""
    short = [option.rpartition(".")[2] for option in sweep.values]
    return [option if short.count(name) > 1 else name for option, name in zip(sweep.values, short, strict=True)]


def combinations_of(sweep: SweepFile) -> dict[str, dict[str, Any]]:
    """Every combination of the lists of values by its name, such as ``lr=0.001``; without lists one, without a name."""
    labels = value_labels(sweep)
    return {
        ",".join(f"{label}={_text(value)}" for label, value in zip(labels, chosen, strict=True)): dict(
            zip(sweep.values, chosen, strict=True)
        )
        for chosen in product(*sweep.values.values())
    }


def setting_name(name: str, combination: str) -> str:
    """The name of a setting: of the one that the file names, and of a combination of values; either may be empty."""
    return ",".join(part for part in (name, combination) if part)


def settings_of(sweep: SweepFile) -> dict[str, dict[str, Any]]:
    """Settings by name with their flat options: the named ones, each with every combination of the lists of values."""
    return {
        setting_name(name, combination): _flat(options) | chosen
        for name, options in (sweep.settings or {"": {}}).items()
        for combination, chosen in combinations_of(sweep).items()
    }


def planned_runs(sweep: SweepFile, beside: Path) -> list[PlannedRun]:
    """All runs of a sweep, seed by seed: whenever it is interrupted, what is there is paired.

    Args:
        beside: folder of the sweep's file, from where recipes are looked for too.
    """
    runs = []
    for seed, (setting, of_setting), (arm, of_arm) in product(
        sweep.seeds, settings_of(sweep).items(), sweep.arms.items()
    ):
        merged = _flat(sweep.options) | of_setting | _flat(of_arm) | {"train.seed": seed}
        recipe = _place(str(merged.pop("recipe", sweep.recipe)), beside)
        overrides = tuple(f"{option}={_written(value, seed)}" for option, value in merged.items())
        runs.append(PlannedRun(setting, arm, seed, recipe, overrides))
    return runs


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _place(recipe: str, beside: Path) -> str:
    return next((str(place) for place in (Path(recipe), beside / recipe) if place.exists()), recipe)


def _written(value: Any, seed: int) -> str:
    """A value as ``--set`` reads it: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False).replace(_SEED, str(seed))


def _text(value: Any) -> str:
    """A value in the name of a folder."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_")
