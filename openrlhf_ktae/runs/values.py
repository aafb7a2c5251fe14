"""``openrlhf-ktae data values``: what samples of the reference model are worth, for A*-PO's V* (`losses/a_star.py`)."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.generation import Backend, BackendError, Completion, EngineOptions, Request, Sampling, sample_seed
from openrlhf_ktae.hub import check_model
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.recipe import parse_assignment
from openrlhf_ktae.reward.rollouts import rewards_of
from openrlhf_ktae.runs.prepare import make_assets
from openrlhf_ktae.runs.prompt_files import read_prompts
from openrlhf_ktae.runs.sample_log import Graded, SampleLog
from openrlhf_ktae.runs.terminal import Counting, say, say_error
from openrlhf_ktae.tasks.prompt_set import PromptRow, write_prompts
from openrlhf_ktae.tasks.task import TASK, BaseTask, MadeOptions

_SAMPLING = Sampling(temperature=1.0, top_p=1.0)


@dataclass(frozen=True)
class ValuesOptions:
    """What the command was asked for."""

    prompts: Path
    model: str
    output: Path
    samples: int = 8
    max_tokens: int = 1024
    task: str = "math"
    settings: tuple[str, ...] = ()
    seed: int = 0
    dtype: str = "bfloat16"
    tensor_parallel: int = 1
    engines: int | None = None
    gpu_memory_utilization: float = 0.9
    skip_unsolved: bool = False
    trust_remote_code: bool = False


def values_command(options: ValuesOptions) -> int:
    """Runs the command; returns its exit code. Input errors are printed as one sentence."""
    try:
        say(make_values(options))
    except ValueError as error:
        say_error("error", str(error))
        return 2
    except BackendError as error:
        say_error("error", f"{error}; the same command goes on where it stopped")
        return 1
    return 0


def make_values(options: ValuesOptions, backend: Callable[[EngineOptions], Backend] | None = None) -> str:
    """Writes the prompt set again with the column ``rewards``; a sentence about it.

    ``backend`` makes the source of responses; None: vLLM, in this process or as Ray actors.

    Raises:
        ValueError: options or files that cannot be used.
        BackendError: vLLM ended; what was graded before is kept.
    """
    from openrlhf_ktae.generation.engine import prepare_environment

    prepare_environment()  # before anything imports torch
    if options.samples < 1 or options.max_tokens < 1:
        raise ValueError(f"--samples, --max-tokens: got {options.samples} and {options.max_tokens}, expected 1 or more")
    if options.output.suffix != ".jsonl":
        raise ValueError(f"--output: got {options.output}, expected a name that ends in .jsonl")
    task = task_of(options)
    if (
        isinstance(task.options, MadeOptions)
        and Path(task.options.directory).resolve() in options.prompts.resolve().parents
    ):
        make_assets(task, options.task)
    if not options.prompts.is_file():
        raise ValueError(
            f"prompts: {options.prompts} does not exist; name a prompt set that `openrlhf-ktae data` wrote"
        )
    check_model("--model", options.model, options.trust_remote_code)
    rows = read_prompts(options.prompts, {"input": "prompts", "label": "prompts"}, "label", task.decode_label)
    with SampleLog(options.output.with_name(f"{options.output.name}.samples"), _identity(options, task)) as log:
        left = [(row, s) for row in range(len(rows)) for s in range(options.samples) if (row, s) not in log.done]
        if left:
            _sample(options, task, rows, left, log, backend or _vllm(options))
        found = [[log.done[row, sample] for sample in range(options.samples)] for row in range(len(rows))]
    solved = [samples for samples in found if any(one.is_correct for one in samples)]
    if options.skip_unsolved and not solved:
        raise ValueError(f"{options.output}: no prompt was ever solved, so --skip-unsolved leaves nothing to train on")
    write_prompts(
        (
            row | {"rewards": [one.reward for one in samples]}
            for row, samples in zip(rows, found, strict=True)
            if not options.skip_unsolved or any(one.is_correct for one in samples)
        ),
        options.output,
    )
    return f"{options.output}: {_summary(found, options.skip_unsolved)}"


def task_of(options: ValuesOptions) -> BaseTask:
    """The task whose verifier grades, with its options.

    Raises:
        ValueError: unknown task or option.
    """
    section = section_of(options.task)
    given: dict[str, dict[str, Any]] = {"grader": {}, section: {}}
    for text in options.settings:
        name, value = parse_assignment(text)
        first, _, field = name.partition(".")
        if first not in given:
            raise ValueError(f"--set {name}: expected an option of the reward: grader.* or {section}.*")
        given[first][field] = value
    chosen = TASK.load(options.task)
    try:
        return chosen(chosen.Options(**given[section]), RewardConfig(**given["grader"]))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise ValueError(f"--set: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None


def _identity(options: ValuesOptions, task: BaseTask) -> dict[str, Any]:
    """Everything that decides the rewards."""
    return {
        "prompts": hashlib.sha256(options.prompts.read_bytes()).hexdigest(),
        "model": options.model,
        "samples": options.samples,
        "max_tokens": options.max_tokens,
        "task": options.task,
        "task_options": task.options.model_dump(mode="json"),
        "grader": task.grader.model_dump(mode="json"),
        "seed": options.seed,
        "dtype": options.dtype,
    }


def _vllm(options: ValuesOptions) -> Callable[[EngineOptions], Backend]:
    def make(engine: EngineOptions) -> Backend:
        if options.engines:
            from openrlhf_ktae.generation.ray_engines import RayBackend

            return RayBackend(engine, _SAMPLING, options.engines, address=None)
        from openrlhf_ktae.generation.engine import LocalBackend

        return LocalBackend(engine, _SAMPLING)

    return make


def _sample(
    options: ValuesOptions,
    task: BaseTask,
    rows: Sequence[PromptRow],
    left: Sequence[tuple[int, int]],
    log: SampleLog,
    make_backend: Callable[[EngineOptions], Backend],
) -> None:
    """Generates and grades what is left; grading runs beside generation."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=options.trust_remote_code)
    prompts = [row["input"] for row in rows]
    # As training does (openrlhf/utils/agent.py:227): prompts hold their template's special tokens as text.
    token_ids = [tuple(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    requests = [
        Request(("", row, sample), prompts[row], token_ids[row], options.max_tokens, seed, ())
        for row, sample in left
        for seed in [sample_seed(options.seed, row, sample)]
    ]

    def grade(finished: list[Completion]) -> list[Graded]:
        places = [one.key[1] for one in finished]
        queries = [
            tokenizer.decode([*token_ids[row], *one.token_ids], skip_special_tokens=False)
            for row, one in zip(places, finished, strict=True)
        ]
        graded = rewards_of(
            queries, [prompts[row] for row in places], [rows[row]["label"] for row in places],
            task.decode_label, task.verdicts, task.reward,
        )  # fmt: skip
        columns = [graded["rewards"], graded["scores"], graded["extra_logs"]["grader_error"]]
        return [
            Graded(
                one.key[1], one.key[2], reward, bool(score), one.tokens, one.finish_reason == "length", bool(failure)
            )
            for one, reward, score, failure in zip(finished, *(column.tolist() for column in columns), strict=True)
        ]

    length = max(map(len, token_ids)) + options.max_tokens
    backend = make_backend(
        EngineOptions(
            options.model, options.model, None, length, options.dtype, options.seed, options.tensor_parallel,
            options.gpu_memory_utilization, None, None, options.trust_remote_code,
        )
    )  # fmt: skip
    try:
        with Counting("Sampling the reference model", len(rows) * options.samples, len(log.done)) as progress:

            def keep(graded: list[Graded]) -> None:
                log.append(graded)
                progress.count(len(graded))

            _grade_beside(backend.generate(requests), grade, task.grader.workers, keep)
    finally:
        backend.close()


def _grade_beside(
    finished: Iterable[list[Completion]],
    grade: Callable[[list[Completion]], list[Graded]],
    workers: int,
    keep: Callable[[list[Graded]], None],
) -> None:
    """Grades what is finished while more is generated; what graders hold is kept too, whatever ends the generation."""
    with ThreadPoolExecutor(workers) as pool:
        grading: set[Future[list[Graded]]] = set()
        try:
            for completions in finished:
                grading.add(pool.submit(grade, completions))
                ready = {one for one in grading if one.done()}
                grading -= ready
                for one in ready:
                    keep(one.result())
        finally:
            for one in as_completed(grading):
                keep(one.result())


def _summary(found: Sequence[Sequence[Graded]], skip_unsolved: bool) -> str:
    every = [one for samples in found for one in samples]
    solved = [sum(one.is_correct for one in samples) for samples in found]
    text = (
        f"{len(found)} prompts, {len(found[0])} samples each; "
        f"{100 * fmean(one.is_correct for one in every):.1f} % correct, mean reward "
        f"{fmean(one.reward for one in every):.3f}; {solved.count(len(found[0]))} prompts always solved, "
        f"{solved.count(0)} never{' and left out' if skip_unsolved else ''}; "
        f"{100 * fmean(one.is_truncated for one in every):.1f} % of the samples were cut off at --max-tokens"
    )
    failures = sum(one.is_failure for one in every)
    return text + (f"; the grader broke on {failures}, which count as wrong" if failures else "")
