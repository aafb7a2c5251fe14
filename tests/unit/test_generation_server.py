"""Responses of a server: what ended them, and what becomes of requests under way when the work ends early."""

import signal
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import eval_server
import pytest
import yaml

from openrlhf_ktae.generation import BackendError, Request, Sampling, sample_seed
from openrlhf_ktae.generation.server import ServerBackend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def serve():
    """Serves with a function that makes the choice of a response, or none where the request is refused."""
    servers, is_over = [], threading.Event()

    def start(choose):
        class Handler(eval_server.Handler):
            def choice(self, body):
                return choose(body, is_over)

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield start
    is_over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def requests(count, stop=()):
    return [Request(("t", i, 0), f"prompt {i}", None, 10, i, stop) for i in range(count)]


def test_seeds_stay_what_they_were_for_samples_that_are_on_disk():
    # CRC-32 of "0/aime/3/1" and "7/3/1"
    assert (sample_seed(0, "aime", 3, 1), sample_seed(7, 3, 1)) == (2891462240, 1218269053)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"stop_reason": "</answer>"}, "so 2</answer>"),  # as vLLM says it
        ({"matched_stop": "</answer>"}, "so 2</answer>"),  # as SGLang says it
        ({"matched_stop": 151643}, "so 2"),  # the end-of-sequence token
        ({"stop_reason": None, "matched_stop": None}, "so 2"),
        ({}, "so 2"),
    ],
)
def test_the_string_that_ends_a_response_stays_in_it(serve, said, text):
    url = serve(lambda body, _: {"index": 0, "text": "so 2", "finish_reason": "stop", "logprobs": None, **said})
    backend = ServerBackend(url, eval_server.MODEL, Sampling(0.0, 1.0), 2)
    (finished,) = backend.generate(requests(1, ("</answer>",)))
    assert [one.text for one in finished] == [text]
    backend.close()


def test_a_server_is_asked_to_sample_as_the_backend_was_told(serve):
    asked = []

    def choose(body, _):
        asked.append((body["temperature"], body["top_p"], body["seed"], body["max_tokens"]))
        return {"index": 0, "text": "2", "finish_reason": "stop", "logprobs": None}

    backend = ServerBackend(serve(choose), eval_server.MODEL, Sampling(0.6, 0.95), 2)
    list(backend.generate(requests(2)))
    assert sorted(asked) == [(0.6, 0.95, 0, 10), (0.6, 0.95, 1, 10)]
    backend.close()


def test_a_refused_request_ends_the_work_without_waiting_for_the_others(serve):
    def choose(body, is_over):
        if body["seed"] == 3:
            return None
        is_over.wait(120)

    backend = ServerBackend(serve(choose), eval_server.MODEL, Sampling(0.0, 1.0), 4)
    start = time.monotonic()
    with pytest.raises(BackendError, match="refused a request"):
        list(backend.generate(requests(4)))
    backend.close()
    assert time.monotonic() - start < 30


def test_an_interrupt_does_not_wait_for_requests_under_way(serve, tmp_path):
    under_way = threading.Semaphore(0)

    def choose(body, is_over):
        under_way.release()
        is_over.wait(120)

    (tmp_path / "rows.jsonl").write_text('{"problem": "1+1?", "answer": "2"}\n{"problem": "1+2?", "answer": "3"}\n')
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "path": "rows.jsonl"}))
    command = [sys.executable, "-m", "eval", "run", "--model", eval_server.MODEL, "--base-url", serve(choose)]
    command += ["--benchmark", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "out"), "--concurrency", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores Ctrl-C, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert under_way.acquire(timeout=120) and under_way.acquire(timeout=30)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
