"""The worker side of the grader's pool, a process of its own that reads and writes lines: a number and JSON.

A reply has the number of its request, so that a late one is never taken for another's.

The process that the pool starts imports the symbolic engine once and forks a child that does the comparisons. A child
that passes its deadline is killed and forked again in milliseconds, where a new process would import for seconds.
"""

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from io import RawIOBase
from typing import BinaryIO

import psutil

from openrlhf_ktae.reward.equivalence import compare
from openrlhf_ktae.reward.limits import Refused

READY = "ready"
TIMED_OUT = "timed out"
CRASHED = "error: worker died"

_RECYCLE_AFTER = 2000  # comparisons; bounds what sympy's caches hold
_EXTRA_SECONDS = 2
MOST_WAITING = 4
"""Seconds on the clock for each second of the deadline, which is processor time: a right answer is not wrong because
other processes have the cores."""


def main(deadline_seconds: float, memory_limit_mb: int) -> None:
    """Answers requests ``7 [answer, gold]`` with the reason of the verdict: ``7 "correct"``, ``7 "different"``, ..."""
    # What a library prints must not get between the answers.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that grades; it closes our input
    from openrlhf_ktae.reward.symbolic import equal_expressions

    equal_expressions("x^{2}+1", "1+x^{2}")  # the parser builds its tables on first use; children inherit them
    child: _Child | None = _Child(equal_expressions, deadline_seconds, memory_limit_mb, replies)
    os.dup2(1, 2)  # an import that fails is shown; what parsers print about odd answers is not
    replies.write(b"0 %b\n" % json.dumps(READY).encode())  # requests count from 1
    for line in sys.stdin.buffer:
        number, _, pair = line.partition(b" ")
        if child is None:
            child = _Child(equal_expressions, deadline_seconds, memory_limit_mb, replies)
        reason = child.ask(pair)
        if reason in (TIMED_OUT, CRASHED) or child.answered >= _RECYCLE_AFTER:
            child.kill()
            child = None
        replies.write(b"%b %b\n" % (number, json.dumps(reason).encode()))
    if child is not None:
        child.kill()


class _Child:
    """A forked process that compares, one request at a time."""

    def __init__(
        self, equal: Callable[[str, str], bool], deadline_seconds: float, memory_limit_mb: int, of_worker: RawIOBase
    ) -> None:
        request_end, self._requests = os.pipe()
        self._replies, reply_end = os.pipe()
        self._deadline_seconds = deadline_seconds
        self.answered = 0
        self._process_id = os.fork()
        if self._process_id == 0:
            try:
                os.close(self._requests)
                os.close(self._replies)
                for descriptor in (0, of_worker.fileno()):
                    os.dup2(1, descriptor)  # the worker's pipes end with it, whatever this process is doing
                resource.setrlimit(resource.RLIMIT_AS, (memory_limit_mb << 20, memory_limit_mb << 20))
                _serve(os.fdopen(request_end, "rb"), reply_end, equal, deadline_seconds)
            finally:
                os._exit(0)
        os.close(request_end)
        os.close(reply_end)

    def ask(self, line: bytes) -> str:
        """The reason for one request; ``timed out`` or a crash leave a child that has to be killed."""
        self.answered += 1
        last_moment = time.monotonic() + MOST_WAITING * self._deadline_seconds
        processor_end = _processor_seconds(self._process_id) + self._deadline_seconds
        reply = b""
        try:
            os.write(self._requests, line)  # shorter than the pipe's buffer: MAX_LENGTH bounds it
        except BrokenPipeError:
            return CRASHED
        while not reply.endswith(b"\n"):
            left = min(processor_end - _processor_seconds(self._process_id), last_moment - time.monotonic())
            ready, _, _ = select.select([self._replies], [], [], max(0.0, left))
            if not ready and left <= 0:
                return TIMED_OUT
            if not ready:
                continue
            piece = os.read(self._replies, 4096)
            if not piece:
                return CRASHED
            reply += piece
        return json.loads(reply)

    def kill(self) -> None:
        os.kill(self._process_id, signal.SIGKILL)
        os.waitpid(self._process_id, 0)
        os.close(self._requests)
        os.close(self._replies)


def _processor_seconds(process_id: int) -> float:
    """What a child has computed for so far."""
    times = psutil.Process(process_id).cpu_times()
    return times.user + times.system


def _serve(requests: BinaryIO, replies: int, equal: Callable[[str, str], bool], deadline_seconds: float) -> None:
    # Should the parent die in the middle, the kernel ends this process, whatever it computes.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for line in requests:
        signal.setitimer(signal.ITIMER_REAL, MOST_WAITING * deadline_seconds + _EXTRA_SECONDS)
        answer, gold = json.loads(line)
        reason = _compare(answer, gold, equal)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(replies, json.dumps(reason).encode() + b"\n")


def _compare(answer: str, gold: str, equal: Callable[[str, str], bool]) -> str:
    try:
        return "correct" if compare(answer, gold, equal) else "different"
    except Refused as error:
        return f"refused: {error}"
    except MemoryError:
        return "error: out of memory"
    except Exception as error:  # sympy raises anything on odd input; the verdict is wrong, and counted
        return f"error: {type(error).__name__}"
