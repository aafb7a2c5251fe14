"""Any OpenAI-compatible server with the completions endpoint: vLLM's own, SGLang's, and others."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any, TypeVar

from openrlhf_ktae.generation import BackendError, Completion, Request, Sampling

_TIMEOUT_SECONDS = 1800
_RETRIES = 3

_T = TypeVar("_T")


class ServerBackend:
    """The server at ``base_url`` (``http://host:8000/v1``), asked for ``concurrency`` samples at a time.

    The key, where the server wants one, comes from the environment variable OPENAI_API_KEY.

    Raises:
        BackendError: the server does not answer, or does not serve ``model``.
    """

    def __init__(self, base_url: str, model: str, sampling: Sampling, concurrency: int) -> None:
        import openai

        self._openai = openai
        self._url, self._model, self._sampling, self._concurrency = base_url, model, sampling, concurrency
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=key, max_retries=_RETRIES, timeout=_TIMEOUT_SECONDS
        )
        # A thread that waits for an answer cannot be ended, and Python waits for it; a coroutine can.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._is_vllm = self._start(self._owner()).result() == "vllm"
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """See :class:`openrlhf_ktae.generation.Backend`."""
        waiting = iter(requests)
        running: set[Future[Completion]] = set()
        try:
            while True:
                new = islice(waiting, self._concurrency - len(running))
                running |= {self._start(self._complete(request)) for request in new}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                failed = [future for future in done if future.exception()]
                if finished := [future.result() for future in done if not future.exception()]:
                    yield finished
                if failed:
                    failed[0].result()
        except self._openai.APIStatusError as error:
            raise BackendError(f"server {self._url}: refused a request ({error})") from error
        except self._openai.OpenAIError as error:
            raise BackendError(f"server {self._url}: does not answer any more ({error})") from error

    def close(self) -> None:
        """Ends the requests under way and closes the connections."""
        self._start(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _owner(self) -> str | None:
        """Who serves the model, as the server says it."""
        try:
            served = {one.id: one for one in (await self._client.models.list()).data}
        except self._openai.OpenAIError as error:
            raise BackendError(f"server {self._url}: does not answer ({error}); check --base-url") from error
        if self._model not in served:
            raise BackendError(
                f"server {self._url}: no model {self._model!r}, it serves {', '.join(served)}; set --model"
            )
        return getattr(served[self._model], "owned_by", None)

    async def _complete(self, request: Request) -> Completion:
        answer: Any = await self._client.completions.create(
            model=self._model,
            prompt=list(request.token_ids) if request.token_ids is not None else request.prompt,
            max_tokens=request.max_tokens,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            seed=request.seed,
            stop=list(request.stop) or None,
            extra_body=self._vllm_fields(request) if self._is_vllm else None,
        )
        choice = answer.choices[0]
        text = choice.text
        stopped_at = getattr(choice, "stop_reason", None) or getattr(choice, "matched_stop", None)  # vLLM's, SGLang's
        if not self._is_vllm and stopped_at in request.stop and not text.endswith(stopped_at):
            text += stopped_at
        return Completion(request.key, text, answer.usage.completion_tokens, choice.finish_reason)

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.close()

    @staticmethod
    def _vllm_fields(request: Request) -> dict[str, Any]:
        # vLLM's server would take these from the model's generation_config.json, which changes the numbers.
        neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        return {**neutral, "include_stop_str_in_output": bool(request.stop)}
