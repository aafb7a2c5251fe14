"""Credit from branches, continuations, turns and teams, for real: three steps each on an untrained tiny model.

The advantages of every step are made again, by the slow references, from what the rollout log says.
"""

import contextlib
import itertools
import math

import branch_references as reference
import psutil
import pyarrow.parquet as pq
import pytest
from ktae_oracle import oracle_values
from tiny_run import PROMPTS, REWARD, SAMPLES, TinyRuns, of_run, start, steps, wait_until

from openrlhf_ktae.advantage import KtaeConfig
from openrlhf_ktae.run_folder import RunFolder

pytestmark = pytest.mark.ray

STEPS = 3
PROMPT_LENGTH = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return TinyRuns(tmp_path_factory.mktemp("branching"), STEPS)


def trained(runs: TinyRuns, name: str, *overrides: str) -> tuple[list[list[dict]], list[dict]]:
    """The rollouts of all prompts of all steps of a run, and its metrics."""
    line, folder = runs.command(name, "run.rollout_log_steps=1", "ckpt.save_steps=-1", *overrides)
    process = start(line)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert steps(folder) == list(range(1, len(steps(folder)) + 1)) and len(steps(folder)) >= STEPS
    groups = [group for step in steps(folder) for group in groups_of(folder, step)]
    return groups, [line for line in folder.metrics() if line["kind"] == "train"]


def groups_of(folder: RunFolder, step: int) -> list[list[dict]]:
    rows = pq.read_table(folder.rollouts / f"step_{step:05d}.parquet").to_pylist()
    return [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["group"])]


def of_segments(row: dict, column: str) -> list[float]:
    """The number of each segment, which all of its tokens have."""
    found = {}
    for number, value in zip(row["segment"], row[column], strict=True):
        if number >= 0:
            found.setdefault(int(number), set()).add(value)
    assert all(len(values) == 1 for values in found.values())
    return [values.pop() for _, values in sorted(found.items())]


def oracle_of(group: list[dict], ignored: tuple[int, ...]) -> list[list[float]]:
    """Key-token values of a group, of generated tokens alone."""
    length = max(len(row["token_ids"]) for row in group)

    def padded(name):
        return [row[name] + [0] * (length - len(row[name])) for row in group]

    correct = [row["correct"] for row in group]
    return oracle_values(
        padded("token_ids"), padded("generated"), correct, [0] * len(group), KtaeConfig(ignore_token_ids=ignored)
    )


def test_multi_answer_with_ktae(runs):
    groups, lines = trained(
        runs, "answers", "advantage.terms=[multi_answer, ktae]", "multi_answer.answers=2", 'multi_answer.end="="',
        "vllm.enable_prefix_caching=true", "rollout.max_new_tokens=24",
    )  # fmt: skip
    answered = 0
    for group in groups:
        by_thought = [list(rows) for _, rows in itertools.groupby(group, key=lambda row: row["branch"])]
        assert [len(rows) for rows in by_thought] == [2] * 4
        found = reference.multi_answer([[row["reward"] for row in rows] for rows in by_thought])
        values = iter(oracle_of(group, (0, 2)))
        for rows, (of_thought, of_answers) in zip(by_thought, found, strict=True):
            assert len({tuple(row["token_ids"][: row["segment"].count(0)]) for row in rows}) == 1
            for row, of_answer in zip(rows, of_answers, strict=True):
                total = [
                    (of_thought if number == 0 else of_answer) + value
                    for number, value in zip(row["segment"], next(values), strict=False)
                ]
                assert row["advantage"] == pytest.approx(total, abs=1e-5)
                answered += max(row["segment"]) == 1
                if max(row["segment"]) == 1:
                    assert row["segment_value"][-1] == pytest.approx(reference.mean([r["reward"] for r in rows]))
    assert 0 < answered < len(groups) * 8
    # A thought is generated once, and stands in two rollouts.
    assert all(line["rollout/generated_per_trained_token"] < 1 for line in lines)


def titled(process, title: str) -> list[psutil.Process]:
    """The processes of a run with a title, if none of the run's ends while they are looked at: ask again."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [member for member in of_run(process) if " ".join(member.cmdline()).startswith(title)]
    return []


@pytest.fixture(scope="module")
def chained(runs):
    """A run with continuations whose engine is killed while it samples the second step's."""
    calls = runs.folder / "calls"
    slow = REWARD.replace(
        "    response =", f"    open({str(calls)!r}, 'a').write('.'); time.sleep(0.05)\n    response ="
    )
    (runs.folder / "slow.py").write_text("import time\n" + slow)
    line, folder = runs.command(
        "chain", "run.rollout_log_steps=1", "run.max_restarts=1", f"reward.remote_url={runs.folder / 'slow.py'}",
        "advantage.terms=[segment_value]", "segment_value.cut_every=6", "segment_value.continuations=2",
        "segment_value.threshold=0.5", "vllm.enable_prefix_caching=true",
    )  # fmt: skip
    process = start(line)
    engines = []
    # Before it generates: then its title is that of what it does.
    wait_until(lambda: engines.extend(titled(process, "ray::RolloutActor")) or engines, 200, process)
    wait_until(lambda: steps(folder), 200, process)
    before = calls.stat().st_size
    # A prompt has 8 rollouts, and twice as many continuations at least.
    wait_until(lambda: calls.stat().st_size > before + 12, 60, process)
    engines[0].kill()
    in_a_tree = steps(folder) == [1]
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return folder, in_a_tree


def test_an_engine_killed_in_the_middle_of_a_tree_costs_a_restart_and_no_half_tree(chained):
    folder, in_a_tree = chained
    assert in_a_tree and len(folder.read()["restarts"]) == 1
    assert steps(folder) == list(range(1, STEPS + 1))
    assert [len(group) for step in steps(folder) for group in groups_of(folder, step)] == [8] * PROMPTS * STEPS


def test_segments_are_worth_the_change_of_the_values_of_prefixes(chained):
    folder, _ = chained
    values = []
    for group in (group for step in steps(folder) for group in groups_of(folder, step)):
        of_prompt = reference.mean([row["reward"] for row in group])
        for row in group:
            before = of_segments(row, "segment_value")
            values += before[1:]
            expected = reference.chain(before[1:], row["reward"], of_prompt)
            for number, advantage, log_prob in zip(row["segment"], row["advantage"], row["log_prob"], strict=True):
                certain = log_prob >= math.log(0.5)
                assert advantage == pytest.approx(0 if certain else expected[int(number)], abs=1e-5)
    # Rewards are -0.25 and 0.75: two continuations have a mean of -0.25, 0.25 or 0.75.
    assert set(values) == {-0.25, 0.25, 0.75}
    lines = [line for line in folder.metrics() if line["kind"] == "train"]
    assert all(line["rollout/generated_per_trained_token"] > 1.5 for line in lines)


def test_edges_of_trees_in_asynchronous_training(runs):
    groups, lines = trained(
        runs, "tree", "advantage.terms=[tree_value]", "tree_value.branches=[3, 2]", "tree_value.segment_tokens=6",
        "tree_value.edges_per_step=6", "algo.advantage.is_correction_level=token", "vllm.enable_prefix_caching=true",
        "train.async_enable=true", "rollout.batch_size=2", f"train.batch_size={2 * SAMPLES}",
    )  # fmt: skip
    assert sum(map(len, groups)) == len(lines) * 2 * SAMPLES  # how many steps the edges last for is chance
    for row in itertools.chain.from_iterable(groups):
        assert row["score"] is None and set(row["segment"]) == {0}
        (before,) = of_segments(row, "segment_value")
        assert abs(row["reward"] - before) > 1e-6
        assert row["advantage"] == pytest.approx([row["reward"] - before] * len(row["advantage"]), abs=1e-6)
        depth = 2 if len(row["prompt"]) > PROMPT_LENGTH else 1
        assert len(row["token_ids"]) <= (6 if depth == 1 else 10)
    assert all(0 <= line["tree_value/leaf_accuracy_mean"] <= 1 for line in lines)
    assert lines[0]["tree_value/age_mean"] == 0


def test_turns_with_a_tool_whose_text_is_not_trained_on(runs):
    groups, lines = trained(
        runs, "turns", "task.name=calculator", f"calculator.directory={runs.folder / 'unused_too'}",
        "calculator.warmup_steps=0", "advantage.terms=[turn_level, ktae]", "turn_level.gamma=0.5",
        "rollout.max_new_tokens=48", f"eval.dataset={runs.folder / 'evaluation.jsonl'}",
    )  # fmt: skip
    later = 0
    for group in groups:
        expected = reference.turn_level(
            [row["reward"] for row in group],
            # Nothing that an untrained model writes is the next call.
            [[0.0] * len(of_segments(row, "turn_return")) for row in group],
            gamma=0.5,
            weight=1.0,
        )
        for row, of_turns, values in zip(group, expected, oracle_of(group, (0, 2)), strict=True):
            for place, number in enumerate(row["segment"]):
                assert row["generated"][place] == (number >= 0)
                if number >= 0:
                    assert row["advantage"][place] == pytest.approx(of_turns[int(number)] + values[place], abs=1e-5)
                else:
                    assert row["key_token_value"][place] == 0
            later += max(row["segment"]) > 0
            assert row["response"].count("?;") >= max(row["segment"])
    assert later > 0 and all(line["turn_level/turns_mean"] > 1 for line in lines)


def test_a_team_of_two_has_two_baselines(runs):
    groups, lines = trained(
        runs, "team", "task.name=checked_arithmetic", f"checked_arithmetic.directory={runs.folder / 'unused_three'}",
        "checked_arithmetic.warmup_steps=0", "advantage.terms=[functional_group]",
    )  # fmt: skip
    assert len(groups) == STEPS * PROMPTS
    for group in groups:
        roles = [row["functional_group"][0] for row in group]
        assert roles == [0] * 4 + [1] * 4
        assert [row["prompt"].endswith("?") for row in group] == [role == 1 for role in roles]
        expected = reference.functional_group([row["reward"] for row in group], roles)
        for row, advantage in zip(group, expected, strict=True):
            assert row["advantage"] == pytest.approx([advantage] * len(row["advantage"]), abs=1e-6)
    assert all({f"functional_group/reward_mean_{role}" for role in (0, 1)} <= set(line) for line in lines)
