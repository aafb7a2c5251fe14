"""A pool of worker processes that compare answers and are killed at a deadline.

Workers are plain child processes with one pair of pipes each, not ``multiprocessing``: that would run the caller's
``__main__`` again in every worker (in a Ray actor: import Ray), and a killed worker could take a shared queue with it.
"""

import atexit
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import openrlhf_ktae
from openrlhf_ktae.reward.worker import CRASHED, MOST_WAITING, TIMED_OUT

_WORKER = "import sys; from openrlhf_ktae.reward.worker import main; main(float(sys.argv[1]), int(sys.argv[2]))"
_START_SECONDS = 120.0
_GRACE_SECONDS = 0.5  # the worker keeps the deadline; this is for a worker that does not answer at all
_ATTEMPTS = 3


class GraderPool:
    """Compares answers in ``workers`` processes; may be used from any number of threads.

    Args:
        workers: number of processes.
        deadline_seconds: processor time for a comparison; a worker that needs more is killed.
        memory_limit_mb: address space of a worker in MiB.
    """

    def __init__(self, workers: int = 2, deadline_seconds: float = 5.0, memory_limit_mb: int = 1024) -> None:
        self._deadline_seconds = deadline_seconds
        self._memory_limit_mb = memory_limit_mb
        self._workers = [_Worker(deadline_seconds, memory_limit_mb) for _ in range(workers)]
        self._idle: queue.Queue[_Worker] = queue.Queue()
        for worker in self._workers:
            self._idle.put(worker)
        self._is_closed = False
        atexit.register(self.close)

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._workers)

    def compare(self, answer: str, gold: str) -> str:
        """The reason of the verdict: ``correct``, ``different``, ``timed out``, ``refused: ...`` or ``error: ...``.

        A worker that dies is replaced and the comparison repeated, for it may have died of something else; not when
        the comparison took long, so that an answer that kills its worker holds up nobody.
        """
        request = json.dumps([answer, gold]).encode() + b"\n"
        reason = CRASHED
        worker = self._idle.get()
        try:
            for _ in range(_ATTEMPTS):
                if self._is_closed:
                    return "error: grader is closed"
                started = worker.ready_at()
                reason = worker.ask(request)
                if reason != CRASHED or time.monotonic() - started > self._deadline_seconds / _ATTEMPTS:
                    break
        finally:
            self._idle.put(worker)
        return reason

    def warm_up(self) -> None:
        """Starts all workers and waits until they are ready."""
        threads = [threading.Thread(target=worker.start) for worker in self._workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def process_ids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [worker.process_id for worker in self._workers if worker.process_id is not None]

    def close(self) -> None:
        """Ends the workers. Comparisons under way end with an error verdict."""
        self._is_closed = True
        atexit.unregister(self.close)
        for worker in self._workers:
            worker.end()


class _Worker:
    """One worker process, started when it is first needed."""

    def __init__(self, deadline_seconds: float, memory_limit_mb: int) -> None:
        self._deadline_seconds = deadline_seconds
        self._arguments = [str(deadline_seconds), str(memory_limit_mb)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> bool:
        """Starts the process if there is none. Returns whether it is ready."""
        if self.process_id is not None:
            return True
        self.end()
        root = str(Path(openrlhf_ktae.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",  # `-c` puts the working directory on the path, and any file there may shadow a module
            env=os.environ | {"PYTHONPATH": path},
        )
        return self._reply(_START_SECONDS) is not None

    def ready_at(self) -> float:
        """Starts the process if there is none. Returns when (``time.monotonic``) it was ready or had failed."""
        self.start()
        return time.monotonic()

    def ask(self, request: bytes) -> str:
        """The worker's answer, or what became of the worker."""
        if not self.start():
            self.end()
            return CRASHED
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(request)
        except OSError:
            self.end()
            return CRASHED
        started = time.monotonic()
        reply = self._reply(MOST_WAITING * self._deadline_seconds + _GRACE_SECONDS)
        if reply is not None:
            return reply
        self.end()
        return TIMED_OUT if time.monotonic() - started >= self._deadline_seconds else CRASHED

    def end(self) -> None:
        """Kills the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.kill()
        process.wait()

    def _reply(self, seconds: float) -> str | None:
        """One line from the worker, or None when it does not come in time or the worker has died."""
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            poll = select.poll()  # select() fails on descriptors above 1023, which a training process reaches
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                return None
            piece = os.read(descriptor, 4096)
            if not piece:
                return None
            line += piece
        return json.loads(line)
