"""``openrlhf-ktae options``: every option of a run, ours and OpenRLHF's, with default, meaning and who sets it."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openrlhf_ktae import config
from openrlhf_ktae.advantage.term import TERM
from openrlhf_ktae.advantage.terms import TERMS
from openrlhf_ktae.losses import LOSSES
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.openrlhf_options import known_options
from openrlhf_ktae.recipe import SECTIONS, known_recipes, resolve
from openrlhf_ktae.runs.terminal import say_error
from openrlhf_ktae.tasks import TASKS
from openrlhf_ktae.tasks.task import TASK

_NAMED_RECIPES = 3
"""Most recipes that are named beside a value; of more their number."""


@dataclass(frozen=True)
class Option:
    """An option of a run."""

    name: str
    default: Any
    """Of a run whose recipe does not set it."""
    meaning: str
    choices: tuple[Any, ...] = ()


def all_options() -> list[Option]:
    """Ours by section, then OpenRLHF's as its own parser says them."""
    return [*_ours(), *_openrlhf()]


def _ours() -> Iterator[Option]:
    models: dict[str, type[config.Options]] = dict(SECTIONS)
    for kind, names in ((TERM, TERMS), (LOSS, LOSSES), (TASK, TASKS)):
        models |= {name: kind.load(name).Options for name in names}
    for section, model in models.items():
        for name, field in model.model_fields.items():
            yield Option(f"{section}.{name}", field.get_default(call_default_factory=True), field.description or "")


def _openrlhf() -> Iterator[Option]:
    for name, action in known_options().items():
        yield Option(name, action.default, action.help or "", tuple(action.choices or ()))


def recipe_settings() -> dict[str, dict[str, Any]]:
    """The options that each recipe sets, its fragments included, by recipe name.

    Raises:
        ValueError: a recipe that cannot be resolved.
    """
    settings = {}
    for recipe in known_recipes():
        resolved = resolve(recipe)
        values = resolved.settings()
        settings[recipe.name] = {name: values[name] for name in resolved.sources if name in values}
    return settings


def describe(option: Option, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The lines about one option."""
    lines = [f"{option.name}  (default: {_text(option.default)})"]
    meaning = " ".join(option.meaning.split())
    if option.choices:
        meaning = f"{meaning} One of {', '.join(map(str, option.choices))}.".strip()
    if meaning:
        lines.append(f"    {meaning}")
    recipes_by_value: dict[str, list[str]] = {}
    for recipe, values in settings.items():
        if option.name in values:
            recipes_by_value.setdefault(_text(values[option.name]), []).append(recipe)
    for value, recipes in recipes_by_value.items():
        who = ", ".join(recipes) if len(recipes) <= _NAMED_RECIPES else f"{len(recipes)} recipes"
        lines.append(f"    {value} in {who}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list | tuple) else str(value)


def matching(options: Iterable[Option], word: str) -> list[Option]:
    """Those with ``word`` in their name; then those with it in their meaning."""
    word = word.lower()
    in_name = [option for option in options if word in option.name.lower()]
    return in_name + [option for option in options if option not in in_name and word in option.meaning.lower()]


def options_command(word: str | None) -> int:
    """Prints the options; returns the exit code."""
    options = all_options()
    found = matching(options, word) if word else options
    if not found:
        parts = {part for option in options for part in (option.name, *option.name.split("."))}
        close = difflib.get_close_matches(word or "", sorted(parts), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        say_error("error", f"options: no name or meaning holds {word!r}{hint}")
        return 2
    try:
        settings = recipe_settings()
    except ValueError as error:
        say_error("error", str(error))
        return 2
    print("\n\n".join(describe(option, settings) for option in found))
    return 0
