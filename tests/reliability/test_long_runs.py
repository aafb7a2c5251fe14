"""Long runs that are killed again and again, on request: a minute or so for each kill.

OPENRLHF_KTAE_RANDOM_KILLS=20 python -m pytest -s tests/reliability/test_long_runs.py
OPENRLHF_KTAE_SOAK_STEPS=400 python -m pytest -s tests/reliability/test_long_runs.py
OPENRLHF_KTAE_RUNS_AT_ONCE=10 python -m pytest -s tests/reliability/test_long_runs.py
"""

import json
import os
import random
import time
from collections import defaultdict
from statistics import median

import psutil
import pytest
from disturbed_run import DisturbedRun, kind
from tiny_run import PROCESSES, TinyRuns, numbers, of_run, start, steps, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(0)]  # 0: as long as it takes; every wait has a limit of its own

KILLS = int(os.environ.get("OPENRLHF_KTAE_RANDOM_KILLS", "0"))
SEED = int(os.environ.get("OPENRLHF_KTAE_KILL_SEED", "0"))
SOAK = int(os.environ.get("OPENRLHF_KTAE_SOAK_STEPS", "0"))
AT_ONCE = int(os.environ.get("OPENRLHF_KTAE_RUNS_AT_ONCE", "0"))
SETTINGS = ("run.deterministic_sampling=true", "run.max_restarts=1000", "ckpt.max_num=2", "algo.kl.target=0.1")
UPDATES = "eval.steps=5"


def unbroken_and_disturbed(runs, steps_in_all, *settings):
    """A finished run, and the same one that has just been started."""
    settings = (*SETTINGS, UPDATES, f"eval.dataset={runs.folder / 'evaluation.jsonl'}", *settings)
    line, unbroken = runs.command("unbroken", *settings)
    output, _ = start(line).communicate(timeout=300 + 20 * steps_in_all)
    assert steps(unbroken) == list(range(1, steps_in_all + 1)), output
    return unbroken, DisturbedRun(*runs.command("disturbed", *settings))


def members_of(run):
    """The run's processes, as soon as it has some."""
    wait_until(lambda: of_run(run.process), 60)
    return of_run(run.process)


@pytest.mark.skipif(not KILLS, reason="on request: OPENRLHF_KTAE_RANDOM_KILLS=20")
def test_kills_at_random_moments_lose_no_checkpoint_leave_no_process_and_change_no_number(tmp_path_factory):
    """Every third one while the run starts, the others in or between steps; any of the run's processes."""
    rng = random.Random(SEED)
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=2 * KILLS + 2)
    unbroken, run = unbroken_and_disturbed(runs, 2 * KILLS + 2, "ckpt.save_steps=1")
    for number in range(KILLS):
        seen = steps(run.folder)[-1:]
        if number % 3 == 0:
            time.sleep(rng.uniform(0, 20))
        else:
            wait_until(lambda: steps(run.folder)[-1:] > seen, 200)  # noqa: B023
            time.sleep(rng.uniform(0, 2))
        if run.folder.path.exists() and run.folder.read()["status"] == "finished":
            break
        run.kill(rng.choice(members_of(run)))
    run.finish(600)
    print(f"\n{run.killed.total()} kills: {dict(run.outcomes)}; {dict(run.killed)}")
    assert run.killed.total() >= 0.9 * KILLS
    assert numbers(run.folder) == numbers(unbroken)


@pytest.mark.skipif(not SOAK, reason="on request: OPENRLHF_KTAE_SOAK_STEPS=400")
def test_a_soak_changes_no_number_and_lets_nothing_grow(tmp_path_factory):
    """A process dies every 20 to 40 steps; between two kills no process gains memory, descriptors or threads."""
    rng = random.Random(SEED)
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=SOAK)
    unbroken, run = unbroken_and_disturbed(runs, SOAK, "ckpt.save_steps=5")
    growth, last = [], 0
    while last < SOAK - 20:
        until = min(last + rng.randint(20, 40), SOAK - 1)
        sizes = defaultdict(list)
        while (seen := steps(run.folder)[-1:]) < [until]:
            wait_until(lambda: steps(run.folder)[-1:] > seen, 200, run.process)
            for process in of_run(run.process):
                sizes[kind(process)].append(size_of(process))
        growth.append({name: grown(found) for name, found in sizes.items() if name in PROCESSES})
        assert len(run.whole_checkpoints()) <= 2
        chosen = [process for process in of_run(run.process) if kind(process) in PROCESSES]
        run.kill(rng.choice(chosen))
        last = until
    run.finish(600)
    print(f"\n{SOAK} steps, {run.killed.total()} kills: {dict(run.outcomes)}; {dict(run.killed)}")
    for name in PROCESSES:
        of_kind = [attempt[name] for attempt in growth if name in attempt]
        mib, descriptors, threads = (median(values) for values in zip(*of_kind, strict=True))
        print(f"{name}: {mib:+.1f} MiB, {descriptors:+g} descriptors, {threads:+g} threads between two kills")
        assert mib < 8 and descriptors <= 1 and threads <= 1, name
    assert numbers(run.folder) == numbers(unbroken)


def size_of(process):
    """MiB of a process's own memory, its file descriptors and its threads."""
    try:
        return process.memory_full_info().uss / 2**20, process.num_fds(), process.num_threads()
    except psutil.NoSuchProcess:
        return None


def grown(sizes):
    """From the second to the last third of the samples: the first third is warm-up."""
    found = [size for size in sizes if size is not None]
    third = max(1, len(found) // 3)
    before, after = found[third : 2 * third] or found, found[-third:]
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
