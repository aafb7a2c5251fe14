"""The quickstart's task and model."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from openrlhf_ktae.config import RewardConfig
from openrlhf_ktae.reward.rollouts import check_labels
from openrlhf_ktae.tasks import reward, tiny_model
from openrlhf_ktae.tasks.arithmetic import Task, answer, apply, problems, prompt_rows, work_out
from openrlhf_ktae.tasks.prompt_set import write_prompts
from openrlhf_ktae.tasks.splits import split_of
from openrlhf_ktae.tasks.tiny_model import EOS, load_tokenizer, make_tokenizer, prepare_task


def test_a_problem_is_worked_out_from_left_to_right():
    assert work_out("7*8+1-3*3+4=") == "7*8=6;6+1=7;7-3=4;4*3=2;2+4=6;#6"
    assert answer("7*8+1-3*3+4=") == "6"
    assert apply(3, "-", 8) == 5


def test_noise_changes_its_share_of_the_steps_and_the_chain_goes_on():
    rng = random.Random(0)
    wrong = total = 0
    for prompt in islice(problems("warmup", 1), 2000):
        text = work_out(prompt, 0.22, rng)
        steps, _, final = text.partition("#")
        for before, after in zip(steps.split(";"), steps.split(";")[1:-1], strict=False):
            assert before[-1] == after[0]
        assert steps[-2] == final
        wrong += sum(apply(int(s[0]), s[1], int(s[2])) != int(s[4]) for s in steps.split(";")[:-1])
        total += 5
    assert wrong / total == pytest.approx(0.22 * 0.9, abs=0.015)  # one random digit in ten is the right one
    with pytest.raises(ValueError, match="pass rng"):
        work_out("1+1=", noise=0.1)


def test_splits_are_disjoint_and_problems_distinct():
    drawn = {split: list(islice(problems(split, 0), 3000)) for split in ("warmup", "train", "evaluation")}
    for split, prompts in drawn.items():
        assert len(set(prompts)) == 3000
        assert {split_of(prompt) for prompt in prompts} == {split}


def test_prompt_sets_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        write_prompts(prompt_rows("train", 50, seed=3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "a").read_text().splitlines()]
    check_labels([row["label"] for row in rows], Task(Task.Options()).decode_label)
    assert rows[0]["label"] == answer(rows[0]["input"])


def test_the_runs_reward_grades_worked_solutions(monkeypatch):
    monkeypatch.setenv(reward.TASK_VARIABLE, reward.describe("arithmetic", {}, {"answer_style": "hash"}))
    reward.task.cache_clear()
    prompt = "7*8+1-3*3+4="
    responses = [work_out(prompt) + EOS, "7*8=6;6+1=7;7-3=4;4*3=2;2+4=5;#5" + EOS, "#" + EOS, ""]
    result = reward.reward_func([prompt + response for response in responses], [prompt] * 4, ["6"] * 4)
    reward.task.cache_clear()
    assert result["scores"].tolist() == [1, 0, 0, 0]
    assert result["extra_logs"]["formatted"].tolist() == [1, 1, 0, 0]


def test_every_character_is_a_token():
    tokenizer = make_tokenizer()
    text = "7*8=6;\n#6 {}"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == len(text) and tokenizer.decode(ids) == text


def test_the_learning_rate_rises_stays_and_falls_over_the_share_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(tiny_model, "_LEARNING_RATE", 1.0)
    monkeypatch.setattr(tiny_model, "_LEARNING_RATE_WARMUP_STEPS", 4)
    options = Task.Options(warmup_steps=20, warmup_decay=0.5)
    rates = [tiny_model.learning_rate(step, options) for step in range(1, 21)]
    assert rates == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 8 + [n / 10 for n in range(9, 0, -1)])
    always = Task.Options(warmup_steps=20)
    assert [tiny_model.learning_rate(step, always) for step in (4, 20)] == [1.0, 1.0]


def test_the_model_is_made_once(tmp_path):
    options = Task.Options(
        directory=str(tmp_path), train_problems=8, evaluation_problems=8, warmup_steps=2, warmup_batch_size=4
    )
    seen = []
    assert prepare_task(Task(options), lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == [1, 2] and all(loss > 0 for _, loss in seen)
    assert not prepare_task(Task(options, RewardConfig()))
    # As a version that did not have an option yet left it.
    stamp = tmp_path / "made_with.json"
    stamp.write_text(json.dumps({k: v for k, v in json.loads(stamp.read_text()).items() if k != "warmup_decay"}))
    assert not prepare_task(Task(options))
    assert prepare_task(Task(options.model_copy(update={"train_problems": 9})))
    # A folder that was moved, or is named in another way, is the same.
    (tmp_path / "a").mkdir()
    assert not prepare_task(Task(options.model_copy(update={"train_problems": 9, "directory": f"{tmp_path}/a/.."})))
    # The folder's model type must not make Transformers put another pre-tokenizer in.
    assert len(load_tokenizer(tmp_path / "model").encode("12+3=", add_special_tokens=False)) == 5


def test_of_two_that_want_the_same_model_one_makes_it(tmp_path):
    options = Task.Options(directory=str(tmp_path), train_problems=8, warmup_steps=2, warmup_batch_size=4)
    with ThreadPoolExecutor(2) as pool:  # a lock of a file is one of each time it is opened, so threads will do
        made = list(pool.map(lambda _: prepare_task(Task(options)), range(2)))
    assert sorted(made) == [False, True]
