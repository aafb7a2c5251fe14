"""The published table: what a new result is compared with."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from eval.intervals import accuracy_interval

TABLE = Path(__file__).with_name("published_results.json")

TEMPLATES_USED = {
    "Eurus-2-7B-PRIME-Zero": "prime",
    "Open-Reasoner-Zero-7B": "orz",
    "Qwen-2.5-Math-7B-SimpleRL-Zoo": "simplerl",
}
"""Prompt templates of the published models; every other one used ``qwen_math``."""


@cache
def _table() -> dict[str, Any]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def published_names() -> list[str]:
    """Names of the models in the published table."""
    return list(_table()["models"])


def published_results(name: str) -> dict[str, Any]:
    """A published model as the content of a results.json.

    Its verdicts per problem are not published, but with one sample per problem the interval needs their number alone:
    it does not see the order of the verdicts.

    Raises:
        ValueError: no such model.
    """
    table = _table()
    if name not in table["models"]:
        raise ValueError(f"published table: no model {name!r}; it has {', '.join(table['models'])}")
    model = table["models"][name]
    verdicts = {task: _verdicts(share, table["tasks"][task]) for task, share in model["accuracy"].items()}
    tasks = {}
    for task, scores in verdicts.items():
        tasks[task] = {
            "pass@1": model["accuracy"][task],
            "ci95": list(accuracy_interval([scores])),
            "n": len(scores),
            "k": 1,
            "avg@k": model["accuracy"][task],
            "maj@k": model["accuracy"][task],
            "mean_tokens": model["mean_tokens"][task],
            "median_tokens": None,
            "max_tokens": model["max_tokens"][task],
            "formatted": model["formatted"][task],
            "truncated": None,
        }
    average = {
        key: sum(task[key] for task in tasks.values()) / len(tasks)
        for key in ("pass@1", "avg@k", "maj@k", "mean_tokens", "formatted")
    }
    average |= {"truncated": None, "ci95": list(accuracy_interval(list(verdicts.values()))), "tasks": len(tasks)}
    settings = {"model": name, "template": TEMPLATES_USED.get(name, "qwen_math"), "source": table["source"]}
    return {"partial": False, "partial_because": [], "average": average, "tasks": tasks, "settings": settings}


def _verdicts(share: float, problems: int) -> list[float]:
    correct = round(share * problems)
    if abs(correct - share * problems) > 1e-6:
        raise ValueError(f"published table: accuracy {share} of {problems} problems is no whole number of problems")
    return [1.0] * correct + [0.0] * (problems - correct)
