"""With deterministic sampling a run that was killed repeats the unbroken one bit for bit."""

import os
import random

import pytest
from tiny_run import TinyRuns, named, of_run, start, steps, wait_until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(
        "OPENRLHF_KTAE_LONG_TESTS" not in os.environ,
        reason="exact resuming has not been shown yet (docs/reliability.md); OPENRLHF_KTAE_LONG_TESTS=1 runs the test",
    ),
]

STEPS = int(os.environ.get("OPENRLHF_KTAE_EXACT_STEPS", "5"))
KILLS = int(os.environ.get("OPENRLHF_KTAE_EXACT_KILLS", "1"))
CLOCK = ("time", "seconds")


def numbers(folder):
    """All metrics but those that measure time."""
    return [
        {name: value for name, value in line.items() if name not in CLOCK and not name.startswith("timing/")}
        for line in folder.metrics()
    ]


def test_a_killed_run_repeats_the_unbroken_one_bit_for_bit(tmp_path_factory):
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=STEPS)
    settings = (
        "run.deterministic_sampling=true",
        f"run.max_restarts={KILLS}",
        "ckpt.save_steps=2",
        f"eval.dataset={runs.folder / 'evaluation.jsonl'}",
        "eval.steps=2",
        "algo.kl.target=0.1",  # an adaptive KL controller, whose value has to come back
    )
    line, unbroken = runs.command("unbroken", *settings)
    output, _ = start(line).communicate(timeout=500)
    assert steps(unbroken) == list(range(1, STEPS + 1)), output
    line, broken = runs.command("broken", *settings)
    process = start(line)
    moments = sorted(random.Random(0).sample(range(2, STEPS), KILLS))
    for count, step in enumerate(moments, start=1):
        wait_until(lambda: steps(broken)[-1:] >= [step], 400, process)  # noqa: B023
        named(of_run(process), random.choice(("PolicyActor", "RolloutActor", "raylet/raylet"))).kill()
        wait_until(lambda: len(broken.read()["restarts"]) == count, 90, process)  # noqa: B023
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert numbers(broken) == numbers(unbroken)
    assert all(line["actor_grad_norm"] > 0 for line in numbers(unbroken) if line["kind"] == "train")
