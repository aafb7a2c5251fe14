"""Long runs that are killed again and again beside the same run without kills, on request: half a minute for each kill.

OPENRLHF_KTAE_RANDOM_KILLS=20 python -m pytest -s tests/reliability/test_long_runs.py
OPENRLHF_KTAE_SOAK_STEPS=400 python -m pytest -s tests/reliability/test_long_runs.py
OPENRLHF_KTAE_RUNS_AT_ONCE=10 python -m pytest -s tests/reliability/test_long_runs.py
"""

import json
import os
import random
import re
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil
import pytest
from disturbed_run import SUPERVISOR, DisturbedRun, kind
from tiny_run import PROCESSES, TinyRuns, numbers, of_run, start, steps

from openrlhf_ktae.checkpoints import checkpoint_folder, list_checkpoints

pytestmark = [pytest.mark.ray, pytest.mark.timeout(0)]  # 0: as long as it takes; every wait has a limit of its own

KILLS = int(os.environ.get("OPENRLHF_KTAE_RANDOM_KILLS", "0"))
SEED = int(os.environ.get("OPENRLHF_KTAE_KILL_SEED", "0"))
SOAK = int(os.environ.get("OPENRLHF_KTAE_SOAK_STEPS", "0"))
AT_ONCE = int(os.environ.get("OPENRLHF_KTAE_RUNS_AT_ONCE", "0"))
SETTINGS = ("run.deterministic_sampling=true", "run.max_restarts=1000", "ckpt.max_num=2", "algo.kl.target=0.1")


def unbroken_and_disturbed(runs, *settings):
    """The same run twice, both just started."""
    settings = (*SETTINGS, "eval.steps=5", f"eval.dataset={runs.folder / 'evaluation.jsonl'}", *settings)
    return tuple(DisturbedRun(*runs.command(name, *settings)) for name in ("unbroken", "disturbed"))


def check_that_both_have_the_same_numbers(unbroken, disturbed):
    for run in (disturbed, unbroken):
        run.finish(1800)
    assert not unbroken.restarts()
    assert numbers(disturbed.folder) == numbers(unbroken.folder)


@pytest.mark.skipif(not KILLS, reason="on request: OPENRLHF_KTAE_RANDOM_KILLS=20")
def test_kills_at_random_moments_lose_no_checkpoint_leave_no_process_and_change_no_number(tmp_path_factory):
    """A third of them, at least, while the run starts, the others in or between steps; any of the run's processes."""
    rng = random.Random(SEED)
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=8 * KILLS)
    unbroken, run = unbroken_and_disturbed(runs, "ckpt.save_steps=1")
    while run.killed.total() < KILLS and not run.is_over():
        if run.is_starting and run.killed.total() % 3 == 0:
            time.sleep(rng.uniform(0, 30))
        else:
            run.wait_for_step()
            time.sleep(rng.uniform(0, 2))
        if not run.is_over():
            run.kill_one(rng)
            print(f"{run.killed.total()}. after step {run.folder.last_step()}: {dict(run.outcomes)}", flush=True)
    check_that_both_have_the_same_numbers(unbroken, run)
    print(f"\n{run.killed.total()} kills: {dict(run.outcomes)}; {dict(run.killed)}")
    assert run.killed.total() >= 0.9 * KILLS


@pytest.mark.skipif(not SOAK, reason="on request: OPENRLHF_KTAE_SOAK_STEPS=400")
def test_a_soak_changes_no_number_and_lets_nothing_grow(tmp_path_factory):
    """A process dies every 20 to 40 steps. Nothing grows between two kills, nor in the same run without kills."""
    rng = random.Random(SEED)
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=SOAK)
    unbroken, run = unbroken_and_disturbed(runs, "ckpt.save_steps=5")
    in_one_go, supervisor, attempts = Sizes(), Sizes(), []
    last = 0
    while last < SOAK - 20:
        until = min(last + rng.randint(20, 40), SOAK - 1)
        attempts.append(Sizes())
        while steps(run.folder)[-1:] < [until]:
            run.wait_for_step()
            attempts[-1].note(of_run(run.process))
            supervisor.note([run.process])
            in_one_go.note([unbroken.process, *of_run(unbroken.process)])
            # The new one and two old ones, for a moment.
            assert len(list_checkpoints(checkpoint_folder(run.folder))) <= 3
        run.kill_one(rng, among=tuple(PROCESSES))
        print(f"{run.killed.total()}. after step {until}: {dict(run.outcomes)}", flush=True)
        last = until
    check_that_both_have_the_same_numbers(unbroken, run)
    print(f"\n{SOAK} steps, {run.killed.total()} kills: {dict(run.outcomes)}; {dict(run.killed)}")
    assert len(run.whole_checkpoints()) == 2
    between_kills = {}
    for name in PROCESSES:
        grown = [growth[name] for sizes in attempts if name in (growth := sizes.growth())]
        between_kills[name] = [median(values) for values in zip(*grown, strict=True)]
    too_much = []
    for title, found in (
        ("in one go", in_one_go.growth()),
        ("between two kills", between_kills),
        ("over all restarts", supervisor.growth()),
    ):
        for name, (mib, descriptors, threads) in found.items():
            print(f"{title}: {name}: {mib:+.1f} MiB, {descriptors:+g} descriptors, {threads:+g} threads")
            if not (mib < 8 and descriptors <= 1 and threads <= 1):
                too_much.append((title, name))
    assert not too_much


class Sizes:
    """MiB of processes' memory, their file descriptors and their threads, step by step."""

    def __init__(self):
        self._seen = defaultdict(list)

    def note(self, processes):
        for process in processes:
            with suppress(psutil.NoSuchProcess, OSError):
                process = psutil.Process(process.pid)
                if (name := kind(process)) in (*PROCESSES, SUPERVISOR):
                    self._seen[name].append((own_memory(process), process.num_fds(), process.num_threads()))

    def growth(self):
        """By kind, from the second to the last third of what was noted: the first third is warm-up."""
        return {name: _growth(sizes) for name, sizes in self._seen.items()}


def own_memory(process):
    """MiB without files and Ray's shared memory. What a fork still shares with its server counts: it does not grow when
    the fork writes to it."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    if found is None:  # it is a zombie by now
        raise psutil.NoSuchProcess(process.pid)
    return int(found[1]) / 1024


def _growth(sizes):
    third = max(1, len(sizes) // 3)
    before, after = sizes[third : 2 * third] or sizes, sizes[-third:]
    return tuple(
        median(b) - median(a) for a, b in zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)
    )


@pytest.mark.skipif(not AT_ONCE, reason="on request: OPENRLHF_KTAE_RUNS_AT_ONCE=10")
def test_runs_that_start_at_once_all_train(tmp_path_factory):
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=2)
    started = [runs.command(f"run{number}") for number in range(AT_ONCE)]
    processes = [start(line) for line, _ in started]
    outputs = [process.communicate(timeout=120 * AT_ONCE)[0] for process in processes]
    for (_, folder), process, output in zip(started, processes, outputs, strict=True):
        assert process.returncode == 0 and steps(folder) == [1, 2], output
        assert json.loads(folder.summary_file.read_text())["restarts"] == 0, output
