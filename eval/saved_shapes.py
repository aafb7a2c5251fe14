"""Records of other evaluation programs, brought into the one shape that :mod:`eval.saved_outputs` reads.

A record is told by its fields, never by the name of its file, which only gives a task to records that name none:

- lm-evaluation-harness, ``samples_<task>_<time>.jsonl`` of ``--log_samples``: ``doc``, ``target``, ``resps``;
- lighteval, ``details_<task>_<time>.parquet``: ``doc`` and ``model_response``, earlier ``full_prompt``, ``gold`` and
  ``predictions``;
- OpenCompass, ``predictions/<model>/<dataset>.json``: an object of records, each ``origin_prompt``, ``prediction``,
  ``gold``.
"""

import ast
import re
from pathlib import Path
from typing import Any

from openrlhf_ktae.reward.answer import find_answer

_HARNESS_FILE = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T.*")
_LIGHTEVAL_FILE = re.compile(r"details_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T.*")
_PROBLEM_FIELDS = ("problem", "question", "query", "Problem", "Question", "input")

Row = dict[str, Any]


def standard_row(row: Row, path: Path) -> Row:
    """A record of another program as ``{task, problem, answers, outputs}``; any other record as it is.

    Raises:
        ValueError: a record of a known program without what is graded.
    """
    if "resps" in row and "target" in row:
        return _harness(row, path)
    if isinstance(row.get("doc"), dict) and isinstance(row.get("model_response"), dict):
        return _lighteval(row, path)
    if "predictions" in row and "gold" in row:
        return _old_lighteval(row, path)
    if "prediction" in row and "origin_prompt" in row:
        return _opencompass(row, path)
    return row


def is_repeated(row: Row, before: set[tuple[Any, str]]) -> bool:
    """Whether a record only says again what another filter of lm-evaluation-harness found in the same output."""
    if "filter" not in row or "resps" not in row:
        return False
    key = row.get("doc_id"), str(row["resps"])
    if key in before:
        return True
    before.add(key)
    return False


def _harness(row: Row, path: Path) -> Row:
    document = row["doc"] if isinstance(row.get("doc"), dict) else {}
    name = _HARNESS_FILE.fullmatch(path.stem)
    outputs = row["resps"]
    while isinstance(outputs, list) and len(outputs) == 1 and isinstance(outputs[0], list):
        outputs = outputs[0]
    prompt = _first_text(row.get("arguments"))
    problem = next((document[key] for key in _PROBLEM_FIELDS if isinstance(document.get(key), str)), prompt)
    return {
        "task": row.get("task_name") or row.get("task") or (name["task"] if name else path.stem),
        "problem": problem or f"doc_id {row.get('doc_id')}",
        "prompt": prompt,
        "index": row.get("doc_id"),
        "answers": _answer_in(row["target"]),
        "outputs": outputs,
    }


def _lighteval(row: Row, path: Path) -> Row:
    document, response = row["doc"], row["model_response"]
    name = _LIGHTEVAL_FILE.fullmatch(path.stem)
    choices, gold = document.get("choices") or [], document.get("gold_index", 0)
    places = gold if isinstance(gold, list) else [gold]
    answers = [choices[place] for place in places if isinstance(place, int) and place < len(choices)]
    if not answers:
        raise ValueError(f"doc: no reference answer (choices {choices!r}, gold_index {gold!r})")
    return {
        "task": document.get("task_name") or (name["task"] if name else path.stem),
        "problem": document.get("query"),
        "answers": [one for answer in answers for one in _as_list(_answer_in(answer))],
        "outputs": response.get("text"),
        "tokens": [len(ids) for ids in response.get("output_tokens") or []] or None,
    }


def _old_lighteval(row: Row, path: Path) -> Row:
    name = _LIGHTEVAL_FILE.fullmatch(path.stem)
    return {
        "task": row.get("task_name") or (name["task"] if name else path.stem),
        "problem": row.get("full_prompt") or row.get("example"),
        "answers": [one for answer in _as_list(row["gold"]) for one in _as_list(_answer_in(answer))],
        "outputs": _as_list(row["predictions"]),
    }


def _opencompass(row: Row, path: Path) -> Row:
    if row.get("gold") is None:
        raise ValueError("no gold; OpenCompass writes it since version 0.1.5: run the prediction again")
    prompt = row["origin_prompt"]
    if isinstance(prompt, list):
        asked = [turn.get("prompt") or turn.get("content") for turn in prompt if isinstance(turn, dict)]
        prompt = next((text for text in reversed(asked) if isinstance(text, str) and text.strip()), None)
    return {
        "task": path.stem,
        "problem": prompt,
        "answers": _answer_in(row["gold"]),
        "outputs": _as_list(row["prediction"]),
    }


def _answer_in(gold: Any) -> Any:
    """The answer of a reference that may be a whole solution: behind ``####``, or in its last box."""
    if isinstance(gold, list):
        return [one for cell in gold for one in _as_list(_answer_in(cell))]
    if not isinstance(gold, str):
        return gold
    for mark, style in (("####", "hash"), ("\\boxed", "boxed"), ("\\fbox", "boxed")):
        if mark in gold and (found := find_answer(gold, style)).formatted:  # pyright: ignore[reportArgumentType]
            return found.text
    return gold


def _as_list(cell: Any) -> list[Any]:
    """A list, also where it was written as text: ``"['a', 'b']"``."""
    if isinstance(cell, str) and cell.startswith("[") and cell.endswith("]"):
        try:
            value = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [cell]
        return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else [cell]
    return cell if isinstance(cell, list) else [cell]


def _first_text(arguments: Any) -> str | None:
    """The prompt in the harness's arguments: ``[[prompt, {...}]]`` or ``{"gen_args_0": {"arg_0": prompt}}``."""
    while isinstance(arguments, list | dict) and arguments:
        arguments = arguments[0] if isinstance(arguments, list) else next(iter(arguments.values()))
    return arguments if isinstance(arguments, str) else None
