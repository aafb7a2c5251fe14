"""What a person reads in the terminal while a run goes on."""

from typing import Any

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False)

_LINE = (
    ("accuracy", "rollout/accuracy", "{:.3f}"),
    ("reward", "rollout/reward_mean", "{:.3f}"),
    ("tokens", "rollout/response_length_mean", "{:.0f}"),
    ("entropy", "entropy_loss", "{:.3f}"),
    ("kl", "kl", "{:.4f}"),
    ("key tokens", "ktae/key_token_frac", "{:.0%}"),
    ("grad", "actor_grad_norm", "{:.2f}"),
    ("seconds", "timing/step_total", "{:.2f}"),
)


def say(text: str) -> None:
    """A line for the person, as it is."""
    console.print(escape(text), soft_wrap=True)


def say_error(head: str, text: str) -> None:
    """A line on standard error, its head in red."""
    Console(stderr=True, highlight=False).print(f"[bold red]{head}[/] {escape(text)}")


def format_line(line: dict[str, Any], total: int | None) -> str:
    """One line of metrics.jsonl for the terminal."""
    if line["kind"] == "eval":
        found = [f"{name} {value:.3f}" for name, value in line.items() if "/pass@" in name and value is not None]
        return f"  evaluation after step {line['step']}: {', '.join(found)}"
    step = f"{line['step']}/{total}" if total else str(line["step"])
    parts = [f"{name} {form.format(line[key])}" for name, key, form in _LINE if line.get(key) is not None]
    return f"step {step:>7}  " + "  ".join(parts)
