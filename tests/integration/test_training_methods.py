"""What the methods do to the numbers of a step, computed again from a run's log.

Real Ray, vLLM and DeepSpeed on an untrained tiny model. Methods that compose train together, in one run.
"""

import json
import math

import pytest
from method_references import entropy_weight, high_entropy, kalman_baseline, token_probability
from tiny_run import PROMPTS, SAMPLES, TinyRuns, rollouts, steps, succeed

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return TinyRuns(tmp_path_factory.mktemp("runs"), steps=3)


def test_all_terms_and_lopti_train_together(runs):
    """Every term from the columns of the log, in their order; the loss of both passes from the advantages."""
    line, folder = runs.command(
        "composed",
        "advantage.terms=[kalman_baseline, token_probability, entropy_weight, high_entropy]",
        "token_probability.alpha=0.7",
        "entropy_weight.beta=0.5",
        "high_entropy.share=0.3",
        "policy_loss.name=lopti",
        "lopti.threshold=0.01",
        f"train.micro_batch_size={PROMPTS * SAMPLES}",
        "run.rollout_log_steps=1",
    )
    succeed(line)
    assert steps(folder) == [1, 2, 3]
    lines = [line for line in folder.metrics() if line["kind"] == "train"]
    distances: dict[str, float] = {}
    for number in (1, 2, 3):
        rows = rollouts(folder, number)
        entropies, log_probs = ([row[name] for row in rows] for name in ("entropy", "log_prob"))
        every_token = [[1] * len(row) for row in entropies]
        expected = []
        for start in range(0, len(rows), SAMPLES):
            group = rows[start : start + SAMPLES]
            baseline = kalman_baseline([row["reward"] for row in group])
            expected += [[a] * len(row["entropy"]) for a, row in zip(baseline, group, strict=True)]
        expected = token_probability(expected, log_probs, 0.7)
        expected = entropy_weight(expected, entropies, every_token, 0.5)
        expected = high_entropy(expected, entropies, every_token, 0.3)
        for row, advantages in zip(rows, expected, strict=True):
            assert row["advantage"] == pytest.approx(advantages, abs=1e-4)
            kept = [float(value != 0) for value in advantages]
            assert row["high_entropy"] == kept or not any(advantages)
        tokens = [(a, math.exp(log)) for row in rows for a, log in zip(row["advantage"], row["log_prob"], strict=True)]
        low, high = (-sum(a for a, p in tokens if (p < 0.01) is is_low) / len(tokens) for is_low in (True, False))
        loss = lines[number - 1]["policy_loss"]
        for name, expected_loss in (("both", low + high), ("low", low), ("high", high)):
            distances[name] = distances.get(name, 0.0) + abs(loss - expected_loss)
    # Not exactly: the second pass starts from the weights after the first one.
    assert distances["both"] < 0.5 * min(distances["low"], distances["high"])


def test_a_star_trains_on_one_rollout_a_prompt(runs):
    rows = [json.loads(line) for line in (runs.folder / "train.jsonl").read_text().splitlines()]
    with (runs.folder / "values.jsonl").open("w") as file:
        for number, row in enumerate(rows):
            file.write(json.dumps(row | {"rewards": [float(i < number % 9) for i in range(8)]}) + "\n")
    line, folder = runs.command(
        "a_star",
        "advantage.terms=[]",
        "policy_loss.name=a_star",
        "algo.advantage.estimator=flash_reinforce",
        f"data.prompt_dataset={runs.folder / 'values.jsonl'}",
        "run.rollout_log_steps=1",
        "rollout.n_samples_per_prompt=1",
        "rollout.micro_batch_size=4",
        "train.batch_size=4",
        "train.micro_batch_size=4",
    )
    succeed(line)
    lines = [line for line in folder.metrics() if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [1, 2, 3]
    # The first step starts from the reference: no log-ratio, and the loss is the mean of (V* - r)^2.
    values = {
        row["input"]: 0.5 * math.log(sum(math.exp(2 * r) for r in row["rewards"]) / 8)
        for row in map(json.loads, (runs.folder / "values.jsonl").read_text().splitlines())
    }
    residuals = [values[row["prompt"]] - row["reward"] for row in rollouts(folder, 1)]
    assert lines[0]["policy_loss"] == pytest.approx(sum(r * r for r in residuals) / len(residuals), rel=0.02)
    assert lines[0]["a_star/log_ratio_mean"] == pytest.approx(0, abs=0.05)
