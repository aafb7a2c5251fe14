"""Any OpenAI-compatible server with the completions endpoint: vLLM's own, SGLang's, and others."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

from openrlhf_ktae.generation import BackendError, Completion, Request, Sampling

_TIMEOUT_SECONDS = 1800
_RETRIES = 3


class ServerBackend:
    """The server at ``base_url`` (``http://host:8000/v1``), asked for ``concurrency`` samples at a time.

    The key, where the server wants one, comes from the environment variable OPENAI_API_KEY.

    Raises:
        BackendError: the server does not answer, or does not serve ``model``.
    """

    def __init__(self, base_url: str, model: str, concurrency: int) -> None:
        import openai

        self._openai = openai
        self._url, self._model, self._concurrency = base_url, model, concurrency
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self._client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=_RETRIES, timeout=_TIMEOUT_SECONDS)
        try:
            served = {one.id: one for one in self._client.models.list()}
        except openai.OpenAIError as error:
            raise BackendError(f"server {base_url}: does not answer ({error}); check --base-url") from error
        if model not in served:
            raise BackendError(f"server {base_url}: no model {model!r}, it serves {', '.join(served)}; set --model")
        self._is_vllm = getattr(served[model], "owned_by", None) == "vllm"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """See :class:`openrlhf_ktae.generation.Backend`."""
        waiting = iter(requests)
        with ThreadPoolExecutor(self._concurrency) as pool:
            running: set[Future[Completion]] = set()
            try:
                while True:
                    new = islice(waiting, self._concurrency - len(running))
                    running |= {pool.submit(self._complete, request, sampling) for request in new}
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
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _complete(self, request: Request, sampling: Sampling) -> Completion:
        answer: Any = self._client.completions.create(
            model=self._model,
            prompt=list(request.token_ids) if request.token_ids is not None else request.prompt,
            max_tokens=request.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=request.seed,
            stop=list(request.stop) or None,
            extra_body=self._vllm_fields(request) if self._is_vllm else None,
        )
        choice = answer.choices[0]
        text = choice.text
        stopped_at = getattr(choice, "stop_reason", None)
        if not self._is_vllm and stopped_at in request.stop and not text.endswith(stopped_at):
            text += stopped_at
        return Completion(request.key, text, answer.usage.completion_tokens, choice.finish_reason)

    @staticmethod
    def _vllm_fields(request: Request) -> dict[str, Any]:
        # vLLM's server would take these from the model's generation_config.json, which changes the numbers.
        neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        return {**neutral, "include_stop_str_in_output": bool(request.stop)}

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
