"""Methods by name or by path: one class in one file, ours from an explicit table, a stranger's from where it lies.

Imports nothing of ours but the options, and a module only when it is asked for: recipes stay free of torch.
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from openrlhf_ktae import config
from openrlhf_ktae.openrlhf_options import nearest


class PluginError(ValueError):
    """A method that cannot be used; the message names the option, what was found and the way out."""


class NoOptions(config.Options):
    """Of a method that has none."""


class Plugin:
    """Base of advantage terms and policy losses: options of its own, checked like every other option."""

    Options: ClassVar[type[config.Options]] = NoOptions

    def __init__(self, options: Any) -> None:
        self.options = options

    @classmethod
    def check(cls, options: Any, args: Any) -> None:
        """Refuses a run that makes no sense. ``args``: OpenRLHF's options.

        Raises:
            ValueError: naming the option, what was found and the way out.
        """


def refuse_length_penalties(args: Any, name: str) -> None:
    """OpenRLHF takes length penalties off the rollouts' rewards, and not off those that values were made of."""
    for option in ("overlong_buffer_len", "stop_properly_penalty_coef"):
        if getattr(args.reward, option, None) is not None:
            raise ValueError(
                f"reward.{option}: {getattr(args.reward, option):g}, a penalty that the values of {name} would lack; "
                "leave it out, or let the reward function give it"
            )


@dataclass(frozen=True)
class Kind:
    """What is loaded: the option that names it, where ours are, and what a file has to hold."""

    option: str
    package: str
    names: tuple[str, ...]
    class_name: str
    base: type
    signature: tuple[str, tuple[str, ...]]
    """A method of the class and the arguments it takes after ``self``."""

    def load(self, source: str) -> type[Any]:
        """The class that ``source`` (a name of ours or the path of a .py file) stands for.

        Raises:
            PluginError: unknown name, missing or broken file, no such class, or a method with another signature.
        """
        module = self._module(source)
        found = getattr(module, self.class_name, None)
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise PluginError(
                f"{self.option}: {source} holds no class {self.class_name}({self.base.__name__}); "
                f"define one (from {self.base.__module__} import {self.base.__name__})"
            )
        method, expected = self.signature
        try:
            inspect.signature(getattr(found, method)).bind(None, *expected)
        except TypeError:
            arguments = inspect.signature(getattr(found, method))
            raise PluginError(
                f"{self.option}: {source}: {self.class_name}.{method}{arguments}, expected "
                f"{method}(self, {', '.join(expected)})"
            ) from None
        return found

    def _module(self, source: str) -> ModuleType:
        if source in self.names:
            return importlib.import_module(f"{self.package}.{source}")
        if not is_path(source):
            known = ", ".join(self.names)
            raise PluginError(
                f"{self.option}: {source!r} is unknown{nearest(source, list(self.names))}; known: {known}, "
                "or the path of a .py file of your own"
            )
        path = Path(source)
        if not path.is_file():
            raise PluginError(f"{self.option}: {source} does not exist (looked in {Path.cwd()})")
        spec = importlib.util.spec_from_file_location(f"openrlhf_ktae_{self.class_name.lower()}_{path.stem}", path)
        assert spec is not None and spec.loader is not None  # true of every existing .py path
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where pydantic and pickle look for what the file defines
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a user's file raises
            raise PluginError(f"{self.option}: {source} cannot be imported: {error!r}") from error
        return module


def is_path(source: str) -> bool:
    """Whether ``source`` names a file and not one of our methods."""
    return source.endswith(".py")


def section_of(source: str) -> str:
    """The section of the options of a method: its name, or its file's name without ``.py``."""
    return Path(source).stem if is_path(source) else source


def loaded(kind: Kind, sources: list[str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The methods of a run by section name, made from their options in ``settings`` (run.json's ``config``)."""
    methods = {}
    for source in sources:
        made = kind.load(source)
        methods[section_of(source)] = made(made.Options(**settings.get(section_of(source), {})))
    return methods
