"""``run``: generate, grade as responses come, keep everything, go on where an earlier run stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eval.grading import equivalence, grade_samples
from eval.model import check_context, check_folder, fingerprint, load_tokenizer, template_warning, tokenize
from eval.options import RunOptions
from eval.records import Record
from eval.results import summarise
from eval.saved_outputs import Sample
from eval.store import Store
from eval.suite import Task, load_tasks
from openrlhf_ktae.generation import (
    Backend,
    BackendError,
    Completion,
    EngineOptions,
    Key,
    Request,
    Sampling,
    sample_seed,
)
from openrlhf_ktae.hub import check_code
from openrlhf_ktae.tasks.math.benchmarks import Problem


class Watcher(Protocol):
    """What is told about the progress."""

    def start(self, total: int, done: Sequence[Record] = (), description: str = ...) -> None:
        """The number of samples, and those that are there already."""
        ...

    def graded(self, records: Sequence[Record]) -> None:
        """New graded samples."""
        ...


@dataclass(frozen=True)
class Job:
    """A sample that is to be generated and graded."""

    request: Request
    problem: Problem


def run(options: RunOptions, watcher: Watcher, warn: Callable[[str], None]) -> dict[str, Any]:
    """Runs an evaluation, or what is left of it; the content of results.json.

    Whatever ends it early (an error, Ctrl-C), the samples so far are kept and results.json says ``partial``.

    Raises:
        ValueError: options, data or model that cannot be used.
        BackendError: the engine or the server ended.
    """
    options.check()
    if not options.base_url:
        from openrlhf_ktae.generation.engine import prepare_environment

        prepare_environment()
        check_folder(options.model, needs_tokenizer=options.tokenizer is None)
        check_code("model", options.model, options.trust_remote_code, options.revision)
        check_context(options.model, options.revision, options.max_model_len, options.trust_remote_code)
    tasks = load_tasks(options.data, options.tasks, options.benchmarks, options.template, options.limit)
    tokenizer = _tokenizer(options, tasks, warn)
    jobs = make_jobs(tasks, options, tokenizer)
    settings = _settings(options, tasks)
    expected = {task.name: len(task.problems) * options.n for task in tasks}
    results: dict[str, Any] = {}
    with Store(options.output, settings) as store:
        watcher.start(len(jobs), store.records, "generating")
        left = [job for job in jobs if job.request.key not in store.done]
        try:
            if left:
                backend = make_backend(options)
                try:
                    for records in _graded(backend, left, settings):
                        store.append(records)
                        watcher.graded(records)
                finally:
                    backend.close()
        finally:
            if store.records:
                results = summarise(store.records, settings, equivalence(), expected)
                store.write_results(results)
    return results


def make_jobs(tasks: Sequence[Task], options: RunOptions, tokenizer: Any) -> list[Job]:
    """Every sample of an evaluation, in order.

    Raises:
        ValueError: a prompt that leaves no room for a response.
    """
    jobs = []
    for task in tasks:
        for problem in task.problems:
            prompt = task.template.render(problem.problem, tokenizer)
            token_ids = tokenize(prompt, task.template, tokenizer) if tokenizer is not None else None
            room = options.max_model_len - len(token_ids or ())
            if room < 1:
                raise ValueError(
                    f"{task.name}, problem {problem.index}: the prompt has {len(token_ids or ())} tokens, "
                    f"max-model-len is {options.max_model_len}; raise --max-model-len"
                )
            for sample in range(options.n):
                key = (task.name, problem.index, sample)
                longest, seed = min(options.max_tokens, room), sample_seed(options.seed, *key)
                request = Request(key, prompt, token_ids, longest, seed, task.template.stop)
                jobs.append(Job(request, problem))
    return jobs


def make_backend(options: RunOptions) -> Backend:
    """The backend that the options ask for."""
    sampling = Sampling(options.temperature, options.top_p)
    if options.base_url:
        from openrlhf_ktae.generation.server import ServerBackend

        return ServerBackend(options.base_url, options.model, sampling, options.concurrency)
    engine = EngineOptions(
        options.model,
        options.tokenizer or options.model,
        options.revision,
        options.max_model_len,
        options.dtype,
        options.seed,
        options.tensor_parallel,
        options.gpu_memory_utilization,
        options.max_num_seqs,
        options.kv_cache_mib,
        options.trust_remote_code,
    )
    if options.engines:
        from openrlhf_ktae.generation.ray_engines import RayBackend

        return RayBackend(engine, sampling, options.engines, options.address)
    from openrlhf_ktae.generation.engine import LocalBackend

    return LocalBackend(engine, sampling)


def _graded(backend: Backend, jobs: Sequence[Job], settings: dict[str, Any]) -> Iterator[list[Record]]:
    waiting: dict[Key, Job] = {job.request.key: job for job in jobs}
    styles, verifiers = settings["answer_styles"], settings.get("verifiers")
    for finished in backend.generate([job.request for job in jobs]):
        samples = [_sample(waiting.pop(one.key), one) for one in finished]
        yield grade_samples(samples, styles, verifiers=verifiers)
    if waiting:
        raise BackendError(f"{len(waiting)} of {len(jobs)} samples never came back; run it again")


def _sample(job: Job, completion: Completion) -> Sample:
    problem = job.problem
    task, index, sample = completion.key
    return Sample(
        task,
        index,
        sample,
        problem.problem,
        problem.answers,
        job.request.prompt,
        completion.text,
        completion.tokens,
        completion.finish_reason,
        problem.difficulty,
    )


def _tokenizer(options: RunOptions, tasks: Sequence[Task], warn: Callable[[str], None]) -> Any:
    templates = {task.template.name: task.template for task in tasks}
    needs_chat = [name for name, template in templates.items() if template.uses_chat_template]
    if options.base_url and options.tokenizer is None:
        if needs_chat:
            raise ValueError(f"template {needs_chat[0]!r} needs the model's chat template; pass --tokenizer")
        warn("no --tokenizer: the server tokenizes the prompts, and prompt lengths are not checked")
        return None
    if options.tokenizer:
        check_code("tokenizer", options.tokenizer, options.trust_remote_code, options.revision)
    tokenizer = load_tokenizer(options.tokenizer or options.model, options.revision, options.trust_remote_code)
    for template in templates.values():
        if warning := template_warning(template, tokenizer):
            warn(warning)
    return tokenizer


def _settings(options: RunOptions, tasks: Sequence[Task]) -> dict[str, Any]:
    """What decides the numbers. Not in it: where the engines run and how many they are."""
    verifiers = {task.name: task.verifier for task in tasks if task.verifier != "math"}
    return {
        **({"verifiers": verifiers} if verifiers else {}),
        "model": options.model,
        "model_fingerprint": None if options.base_url else fingerprint(options.model, options.revision),
        "revision": options.revision,
        "tokenizer": options.tokenizer,
        "dtype": None if options.base_url else options.dtype,
        "template": options.template,
        "templates": {task.name: task.template.text for task in tasks},
        "answer_styles": {task.name: options.answer_style or task.template.answer_style for task in tasks},
        "data": {task.name: {"fingerprint": task.fingerprint, "problems": task.total} for task in tasks},
        "limit": options.limit,
        "n": options.n,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_tokens,
        "max_model_len": options.max_model_len,
        "seed": options.seed,
    }
