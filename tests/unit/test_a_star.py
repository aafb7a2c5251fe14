"""A*-PO: values, loss and gradient against a second writing, and what is refused."""

import json
from types import SimpleNamespace

import a_star_reference
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from openrlhf_parts import Experience, arguments

from openrlhf_ktae.losses.a_star import AStarOptions, Loss, optimal_value, read_values
from openrlhf_ktae.losses.loss import LossInputs, PolicyLoss

TABLE = (0, 0.294, 0.477, 0.611, 0.717, 0.804, 0.878, 0.943, 1)
"""V* of 0 to 8 correct samples of 8, beta1 0.5."""


def prompt_set(path, rewards_by_prompt):
    rows = [{"input": prompt, "label": "1"} | ({} if rewards is None else {"rewards": rewards})
            for prompt, rewards in rewards_by_prompt]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def inputs(seed=0, rows=5, length=7, micro_batches=1, workers=1, **changes):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    values = {
        "log_probs": -torch.rand(rows, length, generator=generator, dtype=torch.float64) * 40,
        "old_log_probs": torch.zeros(rows, length),
        "advantages": torch.zeros(rows, length),
        "mask": (torch.arange(length) < lengths[:, None]).long(),
        "ref_log_probs": -torch.rand(rows, length, generator=generator, dtype=torch.float64) * 40,
        "rollout_log_probs": None,
        "rewards": torch.randint(0, 2, (rows,), generator=generator).double(),
        "info": {},
        "prompts": [f"prompt {row}" for row in range(rows)],
        "openrlhf": lambda: pytest.fail("OpenRLHF's loss has no part in it"),
        "data_parallel_size": workers,
        "tokens": lengths.sum() * micro_batches,
        "rollouts": torch.tensor(float(rows * micro_batches * workers)),
    } | changes
    values["log_probs"] = values["log_probs"].clone().requires_grad_()
    return LossInputs(**values)


def loss_of(tmp_path, rewards, **options):
    path = prompt_set(tmp_path / "values.jsonl", [(f"prompt {row}", found) for row, found in enumerate(rewards)])
    loss = Loss(AStarOptions(values=str(path), **options))
    loss.prepare(run())
    return loss


def run(dataset="nowhere.jsonl", **changes) -> SimpleNamespace:
    settings = {
        "rollout__n_samples_per_prompt": 1,
        "algo__advantage__estimator": "flash_reinforce",
        "algo__kl__init_coef": 1e-3,
        "data__prompt_dataset": str(dataset),
        "data__input_key": "input",
    }
    return arguments(**(settings | changes))


@pytest.mark.parametrize(("correct", "expected"), list(enumerate(TABLE)))
def test_values_of_eight_samples_are_those_of_the_table(correct, expected):
    found = optimal_value([1.0] * correct + [0.0] * (8 - correct), 0.5)
    assert found == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("beta1", [0.05, 0.5, 7.0])
def test_values_are_those_of_the_reference(beta1):
    generator = torch.Generator().manual_seed(1)
    for count in (1, 3, 8):
        rewards = (torch.rand(count, generator=generator, dtype=torch.float64) * 4 - 2).tolist()
        assert optimal_value(rewards, beta1) == pytest.approx(a_star_reference.value(rewards, beta1), abs=1e-12)


def test_a_value_lies_between_mean_and_best_and_does_not_overflow():
    assert optimal_value([0.0, 1.0], 1e-6) == pytest.approx(1 - 1e-6 * 0.6931, abs=1e-9)
    assert optimal_value([0.0, 1.0], 1e6) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta2", [1e-3, 0.3])
def test_loss_and_gradient_are_those_of_the_formula(tmp_path, seed, beta2):
    rewards = [[0.0] * (8 - k) + [1.0] * k for k in (0, 2, 5, 8, 1)]
    batch = inputs(seed)
    result = loss_of(tmp_path, rewards, beta2=beta2).loss(batch)
    result.loss.backward()
    loss, gradient = a_star_reference.loss_and_gradient(
        batch.log_probs.tolist(), batch.ref_log_probs.tolist(), batch.mask.tolist(), batch.rewards.tolist(),
        [a_star_reference.value(found, 0.5) for found in rewards], beta2,
    )  # fmt: skip
    assert result.loss.item() == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(batch.log_probs.grad, torch.tensor(gradient, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_hand_worked_example(tmp_path):
    """docs/methods.md: 2 of 8 right, so V* = 0.477; a right rollout, twice as likely as under the reference."""
    batch = inputs(rows=1, length=2, log_probs=torch.tensor([[-1.0, -1.0]]) + torch.tensor(2.0).log() / 2,
                   ref_log_probs=torch.tensor([[-1.0, -1.0]]), mask=torch.ones(1, 2), rewards=torch.tensor([1.0]),
                   rollouts=torch.tensor(1.0))  # fmt: skip
    result = loss_of(tmp_path, [[1, 1, 0, 0, 0, 0, 0, 0]]).loss(batch)
    assert result.loss.item() == pytest.approx((0.001 * 0.6931 + 0.4772 - 1) ** 2, abs=1e-4)
    assert result.loss.item() == pytest.approx(0.2726, abs=1e-4)
    result.loss.backward()
    assert batch.log_probs.grad.flatten().tolist() == pytest.approx([-0.001044, -0.001044], abs=1e-6)


def test_what_is_masked_counts_neither_in_the_loss_nor_in_the_gradient(tmp_path):
    rewards = [[0.0, 1.0]] * 5
    batch = inputs(3)
    wild = batch.log_probs.detach() + (1 - batch.mask) * 1e6
    first, second = (loss_of(tmp_path, rewards).loss(inputs(3, log_probs=p)).loss for p in (batch.log_probs, wild))
    assert first.item() == second.item()


def test_micro_batches_and_workers_add_up_to_the_mean_over_rollouts(tmp_path):
    loss = loss_of(tmp_path, [[0.0, 1.0]] * 5)
    whole = loss.loss(inputs(4)).loss
    parts = [loss.loss(inputs(4, micro_batches=2, workers=3)).loss for _ in range(2)]
    # DeepSpeed averages over the 3 workers, each of which holds both micro-batches.
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-12)


def test_values_come_from_the_prompt_set_itself_unless_a_file_is_named(tmp_path):
    own = prompt_set(tmp_path / "own.jsonl", [("a", [0, 1]), ("a", [1, 1]), ("b", [0, 0])])
    assert read_values(own, "input", 0.5)["a"] == pytest.approx(optimal_value([0, 1, 1, 1], 0.5))
    loss = Loss(AStarOptions())
    loss.prepare(run(own))
    assert set(loss.values) == {"a", "b"} and loss.values["b"] == 0
    other = prompt_set(tmp_path / "other.jsonl", [("a", [1])])
    loss = Loss(AStarOptions(values=str(other)))
    loss.prepare(run(own))
    assert loss.values == {"a": 1}


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_values_and_prompts_may_stand_in_any_file_that_holds_lists(tmp_path, suffix):
    rows = [{"input": prompt, "label": "1", "rewards": rewards} for prompt, rewards in (("a", [0, 1]), ("b", [1, 1]))]
    path = tmp_path / f"prompts{suffix}"
    path.write_text(json.dumps(rows)) if suffix == ".json" else pq.write_table(pa.Table.from_pylist(rows), path)
    loss = Loss(AStarOptions())
    Loss.check(loss.options, run(f"owner/name, {path}@train"))
    loss.prepare(run(path))
    assert loss.values == {"a": pytest.approx(optimal_value([0, 1], 0.5)), "b": 1}
    with pytest.raises(ValueError, match=rf"no value for 1 prompts of .*{suffix}, the first in row 2: 'b'"):
        Loss.check(AStarOptions(values=str(prompt_set(tmp_path / "values.jsonl", [("a", [1])]))), run(path))


def test_values_of_other_columns_are_refused(tmp_path):
    path = prompt_set(tmp_path / "p.jsonl", [("a", [1])])
    with pytest.raises(ValueError, match=r"a_star\.values: data\.input_key: 'question' is no column of .*p\.jsonl"):
        Loss.check(AStarOptions(), run(path, data__input_key="question"))


def test_a_run_that_makes_sense_is_accepted(tmp_path):
    Loss.check(AStarOptions(), run(prompt_set(tmp_path / "p.jsonl", [("a", [0, 1])])))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rollout__n_samples_per_prompt": 8, "algo__advantage__estimator": "reinforce"},
         r"rollout\.n_samples_per_prompt: got 8, expected 1"),
        ({"algo__advantage__estimator": "gae"}, r"algo\.advantage\.estimator: got gae, expected flash_reinforce or"),
        ({"data__apply_chat_template": True}, r"data\.apply_chat_template: got True, expected none"),
        ({"data__input_template": "User: {}"}, r"data\.input_template: got 'User: \{\}', expected none"),
        ({"reward__overlong_buffer_len": 16}, r"reward\.overlong_buffer_len: 16, a penalty that the values of a_star"),
        ({"reward__stop_properly_penalty_coef": 0.5}, r"reward\.stop_properly_penalty_coef: 0\.5, a penalty"),
        ({"rollout__temperature": 0.7}, r"rollout\.temperature: got 0\.7, expected 1"),
        ({"rollout__top_p": 0.9}, r"rollout\.top_p: got 0\.9, expected 1"),
        ({"data__prompt_dataset": "owner/name"},
         r"a_star\.values: not set, and owner/name is no local file \(\.jsonl, .*parquet\)"),
        ({"data__prompt_dataset": "gone.jsonl"}, r"a_star\.values: gone\.jsonl cannot be read: No such file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_runs_that_make_no_sense_are_refused(tmp_path, changes, said):
    path = prompt_set(tmp_path / "p.jsonl", [("a", [0, 1])])
    with pytest.raises(ValueError, match=said):
        Loss.check(AStarOptions(), run(path, **changes))


@pytest.mark.parametrize("rewards", [None, [], "1", ["1"], [float("nan")]])
def test_a_prompt_without_rewards_is_refused_before_training(tmp_path, rewards):
    path = prompt_set(tmp_path / "p.jsonl", [("a", [1]), ("b", rewards)])
    with pytest.raises(ValueError, match=r"p\.jsonl, row 2: rewards is .* expected a list of numbers"):
        Loss.check(AStarOptions(), run(path))


def test_prompts_without_a_value_are_refused_before_training_and_in_it(tmp_path):
    values = prompt_set(tmp_path / "values.jsonl", [("a", [1])])
    prompts = prompt_set(tmp_path / "p.jsonl", [("a", None), ("b", None), ("c", None)])
    with pytest.raises(ValueError, match=r"no value for 2 prompts of .*p\.jsonl, the first in row 2: 'b'"):
        Loss.check(AStarOptions(values=str(values)), run(prompts))
    with pytest.raises(ValueError, match="no value for the prompt 'prompt 1'"):
        loss_of(tmp_path, [[1.0]]).loss(inputs(rows=2))


def test_a_values_file_that_is_not_json_lines_is_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text("x\n")
    with pytest.raises(ValueError, match=r"a_star\.values: .*p\.jsonl, line 1: not JSON"):
        Loss.check(AStarOptions(), run(tmp_path / "p.jsonl"))


def test_the_path_of_the_values_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert AStarOptions(values="values.jsonl").values == str(tmp_path / "values.jsonl")


def test_openrlhf_adds_no_kl_term_and_the_loss_gets_its_prompts(tmp_path, monkeypatch):
    from openrlhf.trainer.ppo_utils.experience import make_experience_batch, split_experience_batch
    from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

    from openrlhf_ktae.training.policy_actor import LossInSeat, PolicyTrainer

    loss = loss_of(tmp_path, [[0.0, 1.0], [1.0, 1.0]])
    one = Experience(
        sequences=torch.ones(2, 4, dtype=torch.long), attention_mask=torch.ones(2, 4), action_mask=torch.ones(2, 3),
        action_log_probs=torch.full((2, 3), -1.0), base_action_log_probs=torch.full((2, 3), -2.0),
        advantages=torch.zeros(2, 3), rewards=torch.tensor([1.0, 0.0]), prompts=["prompt 1", "prompt 0"],
        info={"kl": torch.tensor([0.1, 0.2])},
    )  # fmt: skip
    batch = make_experience_batch(split_experience_batch(one))  # as the replay buffer hands it over
    trainer = object.__new__(PolicyTrainer)
    trainer.loss, trainer._pass = loss, 0
    trainer.actor_loss_fn = LossInSeat("a_star", loss, lambda *_, **__: pytest.fail("no part in it"))
    seen = {}

    def upstream(self, experience, kl_ctl, step, loss_batch_info=None):
        seen["kl_ctl"] = kl_ctl
        arguments = (experience.action_log_probs, experience.action_log_probs, experience.advantages)
        loss, *_ = self.actor_loss_fn(*arguments, action_mask=experience.action_mask, rollout_log_probs=None,
                                      **loss_batch_info)  # fmt: skip
        return {"metrics": {"loss": loss}}

    monkeypatch.setattr(ActorPPOTrainer, "training_step", upstream)
    batch_info = {"dp_size": 1, "batch_num_tokens": torch.tensor(6.0), "global_batch_size": torch.tensor(2.0)}
    found = trainer.training_step(batch, 0.25, 0, batch_info)["metrics"]["loss"]
    expected = ((0.003 + 1 - 1) ** 2 + (0.003 + optimal_value([0, 1], 0.5) - 0) ** 2) / 2
    assert found.item() == pytest.approx(expected, abs=1e-6) and seen["kl_ctl"] == 0
    assert batch.info["a_star/log_ratio_mean"].tolist() == pytest.approx([3, 3])
    trainer.loss = type("Other", (PolicyLoss,), {"loss": loss.loss})(loss.options)
    trainer.training_step(batch, 0.25, 0, batch_info)
    assert seen["kl_ctl"] == 0.25
