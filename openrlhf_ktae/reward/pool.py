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
from openrlhf_ktae.reward.worker import CRASHED, MOST_WAITING, READY, TIMED_OUT

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
        self._process_id = os.getpid()
        atexit.register(self.close)

    def compare(self, answer: str, gold: str) -> str:
        """The reason of the verdict: ``correct``, ``different``, ``timed out``, ``refused: ...`` or ``error: ...``.

        A worker that dies is replaced and the comparison repeated, for it may have died of something else; not when
        the comparison took long, so that an answer that kills its worker holds up nobody.
        """
        pair = json.dumps([answer, gold]).encode()
        reason = CRASHED
        worker = self._idle.get()
        try:
            for _ in range(_ATTEMPTS):
                if self._is_closed:
                    return "error: grader is closed"
                if not worker.start():
                    continue
                started = time.monotonic()
                reason = worker.ask(pair)
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

    def close(self) -> None:
        """Ends the workers. Comparisons under way end with an error verdict."""
        if os.getpid() != self._process_id:
            return  # a forked copy: the workers, and whoever holds their locks, are its parent's
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
        self._lock = threading.RLock()  # one thread may warm up or close the pool while another compares
        self._asked = 0

    def start(self) -> bool:
        """Starts the process if there is none. Returns whether it is ready."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
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
            return self._exchange(0, b"", _START_SECONDS) == READY

    def ask(self, pair: bytes) -> str:
        """The answer of the process that `start` left ready, or what became of it."""
        with self._lock:
            if self._process is None:
                return CRASHED
            self._asked += 1
            started = time.monotonic()
            request = b"%d %b\n" % (self._asked, pair)
            reply = self._exchange(self._asked, request, MOST_WAITING * self._deadline_seconds + _GRACE_SECONDS)
        if reply is not None:
            return reply
        return TIMED_OUT if time.monotonic() - started >= self._deadline_seconds else CRASHED

    def end(self) -> None:
        """Kills the process, if there is one."""
        if (process := self._process) is not None:
            process.kill()  # a thread that waits for its reply gives the lock back
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()

    def _exchange(self, number: int, request: bytes, seconds: float) -> str | None:
        """The reply to a request; None when it does not come in time or the worker has died.

        A process that owes a reply is ended, whatever kept it from coming: it would be taken for that of the next.
        """
        reply = None
        try:
            assert self._process is not None and self._process.stdin is not None
            self._process.stdin.write(request)
            answered, _, reason = self._line(seconds).partition(b" ")
            if answered == b"%d" % number:
                reply = json.loads(reason)
        except OSError:
            pass
        finally:
            if reply is None:
                self.end()
        return reply

    def _line(self, seconds: float) -> bytes:
        """One line from the worker; empty when it does not come in time or the worker has died."""
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            poll = select.poll()  # select() fails on descriptors above 1023, which a training process reaches
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                return b""
            piece = os.read(descriptor, 4096)
            if not piece:
                return b""
            line += piece
        return line
