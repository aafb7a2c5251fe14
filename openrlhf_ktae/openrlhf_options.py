"""OpenRLHF's own command line, read from its source: parser and checks, without importing Ray, vLLM or torch.

OpenRLHF 0.11.2 builds its parser and checks its options under ``if __name__ == "__main__"`` of
``openrlhf/cli/train_ppo_ray.py``. Importing the module would import the whole stack (10 s, and flash-attn); running
only those statements takes milliseconds and always speaks of the OpenRLHF that is installed.
"""

import argparse
import ast
import contextlib
import difflib
import importlib.util
import io
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

_MODULE = "openrlhf.cli.train_ppo_ray"


class OptionError(ValueError):
    """An option that OpenRLHF does not know or does not accept."""


@lru_cache(maxsize=1)
def _source_parts() -> tuple[CodeType, CodeType]:
    """Upstream's statements that build the parser, and those that check the parsed options before ``train(args)``."""
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{_MODULE}: not installed; run `bash scripts/setup.sh`")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    main = next(node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))
    texts = [ast.unparse(statement) for statement in main.body]
    parsed = next(i for i, text in enumerate(texts) if "parser.parse_args" in text)
    trained = next(i for i, text in enumerate(texts) if text.startswith("train("))

    def is_check(text: str) -> bool:
        # Their nested namespace comes from openrlhf.utils, which imports torch; `_nested` below stands for it. The
        # ModelScope switch patches the process, so it stays for the real run.
        return "hierarchize" not in text and "patch_hub" not in text

    build = ast.Module(main.body[:parsed], type_ignores=[])
    checks = [node for node, text in zip(main.body, texts, strict=True) if is_check(text)]
    check = ast.Module(
        [node for node in checks if main.body.index(node) in range(parsed + 1, trained)], type_ignores=[]
    )
    return compile(build, spec.origin, "exec"), compile(check, spec.origin, "exec")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise OptionError(message)


@lru_cache(maxsize=1)
def parser() -> argparse.ArgumentParser:
    """OpenRLHF's argument parser; it raises OptionError where the original would exit."""
    namespace: dict[str, Any] = {
        "argparse": SimpleNamespace(ArgumentParser=lambda: _Parser(prog=_MODULE, allow_abbrev=False)),
        "datetime": datetime,
    }
    exec(_source_parts()[0], namespace)
    return namespace["parser"]


@lru_cache(maxsize=1)
def known_options() -> dict[str, argparse.Action]:
    """OpenRLHF's options by name (``actor.adam.lr``), without the leading dashes."""
    return {
        name.removeprefix("--"): action
        for action in parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }


def nearest(name: str, names: list[str]) -> str:
    """A hint that names the known names closest to an unknown one, or an empty string."""
    # A person often knows the last part only (`lr` for `actor.adam.lr`), so that counts too.
    same_last_part = [known for known in names if known.split(".")[-1] == name.split(".")[-1]]
    close = same_last_part[:3] or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def to_argv(settings: dict[str, Any]) -> list[str]:
    """OpenRLHF's command line for ``{option: value}``.

    A flag takes true or false; ``None`` leaves an option at OpenRLHF's default; a list becomes several values.

    Raises:
        OptionError: an option that OpenRLHF does not know (the nearest known one is named) or a value of a wrong kind.
    """
    argv: list[str] = []
    options = known_options()
    for name, value in settings.items():
        if name not in options:
            raise OptionError(f"{name}: unknown option{nearest(name, list(options))}")
        if value is None:
            continue
        if options[name].nargs == 0:
            if not isinstance(value, bool):
                raise OptionError(f"{name}: got {value!r}, expected true or false")
            argv += [f"--{name}"] if value else []
        elif isinstance(value, bool):
            raise OptionError(f"{name}: got {value!r}, expected a value, not a flag")
        elif isinstance(value, list | tuple):
            argv += [f"--{name}", *map(str, value)]
        else:
            argv += [f"--{name}", str(value)]
    return argv


def _nested(flat: dict[str, Any]) -> SimpleNamespace:
    """``{"a.b": 1}`` as ``namespace.a.b``, the form in which OpenRLHF's code reads its options."""
    root = SimpleNamespace()
    for name, value in flat.items():
        *parents, last = name.split(".")
        node = root
        for parent in parents:
            if not hasattr(node, parent):
                setattr(node, parent, SimpleNamespace())
            node = getattr(node, parent)
        setattr(node, last, value)
    return root


def parse(argv: list[str]) -> SimpleNamespace:
    """Parses a command line as OpenRLHF will, without its checks and adjustments."""
    return _nested(vars(parser().parse_args(argv)))


def check(argv: list[str]) -> SimpleNamespace:
    """Parses and checks a command line exactly as OpenRLHF will.

    Returns:
        the options as OpenRLHF's code reads them (``args.actor.adam.lr``), after its own adjustments.

    Raises:
        OptionError: OpenRLHF refuses the command line.
    """
    args = parse(argv)
    namespace: dict[str, Any] = {"args": args}
    try:
        # Its warnings are printed again when training starts; here only refusals matter.
        with contextlib.redirect_stdout(io.StringIO()):
            exec(_source_parts()[1], namespace)
    except AssertionError as error:
        raise OptionError(f"OpenRLHF refuses these options: {error}") from None
    except (TypeError, AttributeError) as error:
        raise OptionError(f"OpenRLHF cannot use these options (a required one is missing?): {error}") from None
    return args
