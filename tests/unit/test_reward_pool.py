"""The grader under attack: hostile answers, killed workers, many threads."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from answer_pairs import PAIRS
from grader_workers import worker_process_ids
from hostile_answers import hostile_answers

from openrlhf_ktae.reward import Grader
from openrlhf_ktae.reward.pool import GraderPool
from openrlhf_ktae.reward.worker import MOST_WAITING

DEADLINE = 1.5
ENDLESS = r"\int_0^1 \sin(x^{x^{x}}) e^{\tan x} dx"
HOSTILE = int(os.environ.get("OPENRLHF_KTAE_HOSTILE_ANSWERS", "600"))
"""How many hostile answers are graded; the full soak is 10000 (about ten minutes)."""
SLOW = DEADLINE + 1 if HOSTILE >= 10_000 else MOST_WAITING * DEADLINE + 1
"""Seconds on the clock for one of them. The soak wants a machine of its own."""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    grader = Grader(workers=2, deadline_seconds=DEADLINE)
    grader.warm_up()
    yield grader
    grader.close()


def boxed(answer: str) -> str:
    return f"The answer is \\boxed{{{answer}}}"


def killed_seconds(grader: Grader) -> float:
    """Processor time of the comparing processes that were killed."""
    times = [psutil.Process(process_id).cpu_times() for process_id in worker_process_ids(grader)]
    return sum(time.children_user + time.children_system for time in times)


def peak_kilobytes(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def test_an_endless_comparison_is_killed_at_its_deadline_and_the_next_is_right(grader: Grader) -> None:
    used = killed_seconds(grader)
    verdict = grader.grade(boxed(ENDLESS), "0.5")
    assert killed_seconds(grader) - used < DEADLINE + 0.5
    assert (verdict.correct, verdict.formatted, verdict.timed_out, verdict.reason) == (False, True, True, "timed out")
    assert grader.grade(boxed(r"1+\ln x"), r"\ln x+1").correct


def test_an_error_in_the_calling_process_is_a_wrong_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(answer: str, gold: str) -> bool:
        raise IndexError

    monkeypatch.setattr("openrlhf_ktae.reward.grading.compare_cheaply", fail)
    verdict = Grader().grade(boxed("1"), "2")
    assert (verdict.correct, verdict.reason) == (False, "error: IndexError")


def test_waiting_for_a_core_is_not_comparing() -> None:
    grader = Grader(workers=1, deadline_seconds=0.6)
    grader.warm_up()
    (comparing,) = psutil.Process(worker_process_ids(grader)[0]).children()
    comparing.suspend()
    threading.Timer(1.0, comparing.resume).start()
    assert grader.grade(boxed(r"2+\ln x"), r"\ln x+2").correct
    comparing.suspend()  # for good: four deadlines on the clock are the end
    assert grader.grade(boxed(r"3+\ln x"), r"\ln x+3").timed_out
    assert grader.grade(boxed(r"4+\ln x"), r"\ln x+4").correct
    grader.close()


def test_hostile_answers_neither_hang_nor_crash_the_grader(grader: Grader) -> None:
    slow, broken = [], []
    for index, (kind, answer) in enumerate(hostile_answers(HOSTILE, seed=7, heavy=3)):
        start = time.monotonic()
        verdict = grader.grade(boxed(answer), ("5", r"\frac{x+1}{2}")[index % 2])
        if time.monotonic() - start > SLOW:
            slow.append((kind, answer[:80], time.monotonic() - start))
        if verdict.reason.startswith(("error: worker", "error: grader")):
            broken.append((kind, answer[:80], verdict.reason))
        assert grader.grade(boxed(rf"\ln x+{index}"), rf"{index}+\ln x").correct, (kind, answer[:80])
    assert not slow
    assert not broken
    assert all(peak_kilobytes(process_id) < 400_000 for process_id in worker_process_ids(grader))


def test_the_engine_in_a_worker_gives_the_verdicts_of_the_table(grader: Grader) -> None:
    verdicts = grader.grade_many([(boxed(answer), gold) for answer, gold, _, _ in PAIRS])
    assert [verdict.correct for verdict in verdicts] == [verdict for _, _, verdict, _ in PAIRS]


def test_sixty_four_threads_get_the_same_verdicts() -> None:
    grader = Grader(workers=2, deadline_seconds=10)  # its own: nothing is cached, the pool starts under the load
    pairs = PAIRS[:32] + PAIRS[-32:]
    barrier = threading.Barrier(64)

    def grade(pair: tuple[str, str, bool, str]) -> bool:
        barrier.wait()
        return grader.grade(boxed(pair[0]), pair[1]).correct

    with ThreadPoolExecutor(64) as threads:
        assert list(threads.map(grade, pairs)) == [verdict for _, _, verdict, _ in pairs]
    grader.close()


def test_a_killed_worker_loses_no_answer() -> None:
    grader = Grader(workers=2, deadline_seconds=10, cache_size=0)
    grader.warm_up()
    pairs = [(boxed(rf"(\ln x+{index})^2"), rf"(\ln x)^2+{2 * index}\ln x+{index**2}") for index in range(60)]
    killed: list[int] = []

    def kill() -> None:
        killed.extend(worker_process_ids(grader))
        for process_id in killed:
            os.kill(process_id, signal.SIGKILL)

    killer = threading.Timer(0.3, kill)
    killer.start()
    verdicts = grader.grade_many(pairs)
    killer.join()
    assert len(killed) == 2
    assert not set(killed) & set(worker_process_ids(grader))
    assert all(verdict.correct for verdict in verdicts)
    grader.close()


def test_too_much_memory_is_a_wrong_verdict_with_a_reason() -> None:
    grader = Grader(workers=1, deadline_seconds=20, memory_limit_mb=512)
    verdict = grader.grade(boxed(r"(x+y+z+w+1)^{1500}+\ln x"), "5 x")
    assert not verdict.correct
    assert grader.grade(boxed(r"1+\ln x"), r"\ln x+1").correct
    grader.close()


def test_the_pool_starts_when_it_is_needed_and_workers_end_with_the_grader() -> None:
    grader = Grader(workers=1)
    assert grader.grade(boxed("1/2"), "0.5").correct
    assert worker_process_ids(grader) == []
    assert grader.grade(boxed(r"1+\ln x"), r"\ln x+1").correct
    (process_id,) = worker_process_ids(grader)
    modules = Path(f"/proc/{process_id}/maps").read_text()
    assert not any(name in modules for name in ("libtorch", "_raylet", "vllm"))
    grader.close()
    assert not Path(f"/proc/{process_id}").exists()


def test_workers_end_when_the_process_that_grades_is_killed() -> None:
    program = (
        "import os, psutil, signal\n"
        "from openrlhf_ktae.reward import Grader\n"
        "grader = Grader(workers=1)\n"
        "grader.grade(r'\\boxed{1+\\ln x}', r'\\ln x + 1')\n"
        "print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120).stdout
    worker = Path(f"/proc/{int(output)}")
    end = time.monotonic() + 10
    while worker.exists() and "State:\tZ" not in (worker / "status").read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert time.monotonic() < end


def test_a_program_that_graded_ends_by_itself_with_no_guard_for_main(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from openrlhf_ktae.reward import grade\nprint(grade(r'\\boxed{1+\\ln x}', r'\\ln x + 1').correct)\n"
    )
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, "True\n")


def test_a_worker_that_starts_slowly_shifts_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = GraderPool(workers=1)
    with monkeypatch.context() as patch:
        patch.setattr("openrlhf_ktae.reward.pool._START_SECONDS", 0.01)
        pool.warm_up()
    assert [pool.compare(rf"{i}+\ln x", rf"\ln x+{i % 2}") for i in range(3)] == ["correct", "correct", "different"]
    pool.close()


def test_an_exception_in_the_middle_of_a_comparison_shifts_no_verdict() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    pool = GraderPool(workers=1, deadline_seconds=1)
    pool.warm_up()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        pool.compare(ENDLESS, "5 x")
    signal.signal(signal.SIGALRM, before)
    assert pool.compare(r"1+\ln x", r"\ln x+1") == "correct"
    pool.close()


def test_a_comparison_waits_for_workers_that_start() -> None:
    pool = GraderPool(workers=1)
    others = psutil.Process().children()
    starting = threading.Thread(target=pool.warm_up)
    starting.start()
    while psutil.Process().children() == others:
        time.sleep(0.005)
    assert [pool.compare(rf"{i}+\ln x", rf"\ln x+{i % 2}") for i in range(3)] == ["correct", "correct", "different"]
    starting.join()
    pool.close()


def test_a_comparison_under_way_ends_with_its_pool() -> None:
    pool = GraderPool(workers=1)
    pool.warm_up()
    with ThreadPoolExecutor(1) as threads:
        reason = threads.submit(pool.compare, ENDLESS, "5 x")
        time.sleep(0.3)
        pool.close()
        assert reason.result(timeout=10).startswith("error: ")
