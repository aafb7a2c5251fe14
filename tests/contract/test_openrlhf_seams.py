"""The seams of OpenRLHF 0.11.2 that this project stands on. A new OpenRLHF fails here first, with the seam's name."""

import importlib.metadata
import inspect
import re
from pathlib import Path

import openrlhf_parts  # noqa: F401  (stands in for CUDA where there is none, so that OpenRLHF can be imported)
import pytest
import torch
from openrlhf.cli import train_ppo_ray
from openrlhf.trainer import ppo_trainer, ppo_trainer_async
from openrlhf.trainer.ppo_utils import experience_maker, replay_buffer
from openrlhf.trainer.ppo_utils.experience import Experience, split_experience_batch
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.trainer.ray import ppo_actor, vllm_engine, vllm_worker_wrap
from openrlhf.utils import agent, distributed_util
from openrlhf.utils.deepspeed import deepspeed as strategy
from openrlhf_parts import arguments, experiences, plain_maker

from openrlhf_ktae.training import cpu, cpu_vllm_worker
from openrlhf_ktae.training.cpu_vllm_worker import CpuWorker


def plain(actor_class):
    return actor_class.__ray_metadata__.modified_class


def source(thing) -> str:
    return inspect.getsource(thing)


def test_the_pinned_versions_are_installed():
    requirements = (Path(__file__).parents[2] / "requirements.txt").read_text()
    for name in ("openrlhf", "ray", "deepspeed", "transformers"):
        pinned = re.search(rf"^{name}(?:\[\w+\])?==(\S+)", requirements, re.MULTILINE)[1]
        assert importlib.metadata.version(name) == pinned


def test_advantages_belong_to_the_next_position_of_the_sequence():
    batch = plain_maker(arguments()).compute_advantages_and_returns(experiences(2, 4))[0]
    assert batch.advantages.shape == batch.action_mask.shape
    assert batch.sequences.shape[1] == batch.action_mask.shape[1] + 1


def test_index_numbers_the_rollouts_in_sampling_order():
    assert "sample.index = [i]" in source(experience_maker.RemoteExperienceMaker.split_rollout_samples)
    assert "accepted_experiences.extend(experiences)" in source(SamplesGenerator._generate_vllm)


def test_total_length_says_where_each_row_of_a_padded_experience_ends():
    """`rollout_batch` copies so many positions of a row and not one more."""
    response = {
        "prompt": "", "label": "", "reward": 1.0, "scores": 1.0, "rollout_log_probs": None, "extra_logs": {},
        "observation_tokens": [5, 6, 7, 8], "action_ranges": [(2, 4)],
    }  # fmt: skip
    longer = response | {"observation_tokens": [5, 6, 7, 8, 9, 9], "action_ranges": [(2, 3), (5, 6)]}
    made = [SamplesGenerator._process_response_into_experience(None, one) for one in (response, longer)]
    both = Experience.concat_experiences(made, pad_token_id=0)
    assert both.total_length.tolist() == [4, 6] and both.action_mask.tolist() == [[0, 1, 1, 0, 0], [0, 1, 0, 0, 1]]
    cut = SamplesGenerator._process_response_into_experience(None, longer, max_len=3)
    assert cut.total_length.tolist() == [3] and cut.action_mask.shape == (1, 2)


def test_returns_are_made_in_a_method_that_an_experience_maker_can_replace():
    assert "self.get_cumulative_returns(" in source(experience_maker.RemoteExperienceMaker)
    assert "cumulative_return = rewards[:, t] + gamma * cumulative_return" in source(
        experience_maker.RemoteExperienceMaker.get_cumulative_returns
    )


def test_rewards_hold_length_penalties_and_scores_do_not():
    args = arguments(reward__stop_properly_penalty_coef=-0.5)
    batches = experiences(2, 8)
    scores = batches[0].scores.clone()
    batches[0].truncated[:] = True
    plain_maker(args).compute_advantages_and_returns(batches)
    assert torch.equal(batches[0].rewards, torch.full_like(scores, -0.5))
    assert torch.equal(batches[0].scores, scores)


def test_info_takes_one_number_per_rollout_only():
    batch = experiences(2, 8)[0]
    batch.info["bad"] = torch.zeros(1, 5)
    with pytest.raises(ValueError, match="does not match batch_size"):
        split_experience_batch(batch)


def test_train_imports_its_trainers_late_and_calls_them_by_module():
    text = source(train_ppo_ray.train)
    assert "from openrlhf.trainer.ppo_trainer import PPOTrainer" in text
    assert "from openrlhf.trainer.ppo_trainer_async import PPOTrainerAsync as PPOTrainer" in text
    assert "if not ray.is_initialized():" in text


@pytest.mark.parametrize(
    ("actor_class", "method", "parameters"),
    [
        (ppo_trainer.PPOTrainer, "train_step", ["rollout_samples", "global_step"]),
        (ppo_trainer.PPOTrainer, "save_logs_and_checkpoints", ["global_step", "logs_dict", "client_states"]),
        (ppo_trainer.PPOTrainer, "save_best_checkpoint", ["eval_metrics", "global_step", "client_states"]),
        (ppo_trainer.PPOTrainer, "evaluate", ["global_step", "generate_kwargs"]),
        (ppo_trainer.PPOTrainer, "fit", ["global_step"]),
        (ppo_trainer_async.TrainingActor, "save_best_checkpoint", ["eval_metrics", "global_step", "client_states"]),
        (ppo_trainer_async.GenerateSamplesActor, "fit", ["episode", "total_consumed_prompts"]),
        (ppo_trainer_async.GenerateSamplesActor, "_run_eval", []),
        (vllm_engine.RolloutRayActor, "generate", ["prompt_token_ids", "sampling_params", "multi_modal_data"]),
    ],
)
def test_the_methods_we_extend_have_the_signature_we_know(actor_class, method, parameters):
    found = inspect.signature(getattr(plain(actor_class), method)).parameters
    assert [name for name in found if name != "self" and not name.startswith("_ray")] == parameters


def test_both_trainers_pass_every_evaluation_to_save_best_checkpoint():
    assert "self.save_best_checkpoint(eval_logs, global_step, client_states)" in source(
        plain(ppo_trainer.PPOTrainer).fit
    )
    training = plain(ppo_trainer_async.TrainingActor)
    assert "self.save_best_checkpoint(eval_metrics, eval_step, client_states)" in source(training.fit)
    # An evaluation result gives one slot back: our first evaluation takes one before.
    assert "self.rollout_slots.put(global_step, block=True)" in source(training.fit)


def test_the_rollout_statistics_come_after_the_timed_making_of_experiences():
    # Where our metrics and rollout log hook in: once a step, before the experiences are split for training.
    text = source(ppo_trainer.BasePPOTrainer.train_step)
    assert text.index("make_experience_time = ") < text.index(
        "rollout_stats = self._compute_rollout_stats(experiences)"
    )
    assert text.index("_compute_rollout_stats") < text.index("balance_experiences(")


def test_the_policys_forward_is_gathered_first_and_by_flatten_results():
    text = source(experience_maker.RemoteExperienceMaker.make_experience)
    assert "action_log_probs_list = self._flatten_results(action_log_probs_ref, duplicate_factor)" in text


def test_a_policy_loss_is_called_with_the_arguments_we_know():
    text = source(ppo_actor.ActorPPOTrainer.training_step)
    for line in (
        "actor_loss, clip_ratio, ppo_kl, vllm_kl, is_filter_ratio = self.actor_loss_fn(",
        "action_mask=experience.action_mask,", "rollout_log_probs=experience.rollout_log_probs,", "**loss_batch_info,",
        "kl_loss = aggregate_loss(kl, experience.action_mask, **loss_batch_info)",
    ):  # fmt: skip
        assert line in text
    parameters = inspect.signature(ppo_actor.ActorPPOTrainer.training_step).parameters
    assert list(parameters) == ["self", "experience", "kl_ctl", "step", "loss_batch_info"]


def test_evaluation_averages_rewards_and_goes_in_rounds():
    # The reasons for `_adapt_generation`.
    assert "all_rewards.append(s.rewards)" in source(ppo_trainer.compute_eval_metrics)
    assert "num_prompts=self.args.rollout.batch_size" in source(SamplesGenerator.generate_eval_samples)


def test_the_tokenizer_goes_with_every_prompt_and_serves_nothing_else():
    # The reason for `share_tokenizer`, and why it may take the generator's tokenizer away.
    assert "hf_tokenizer=self.tokenizer" in source(SamplesGenerator._dispatch_prompts_to_vllm)
    assert source(SamplesGenerator).count("self.tokenizer") == 2


def test_engines_are_made_from_a_name_in_their_module_with_a_hard_coded_extension():
    text = source(vllm_engine.create_vllm_engines)
    assert "RolloutRayActor.options(" in text
    assert '"worker_extension_cls": "openrlhf.trainer.ray.vllm_worker_wrap.WorkerWrap"' in text


@pytest.mark.parametrize("name", ["init_process_group", "update_weight"])
def test_our_worker_extension_answers_the_calls_that_openrlhfs_answers(name):
    # It is no subclass: in vLLM's process, OpenRLHF's package would take seconds to import.
    ours = inspect.signature(getattr(CpuWorker, name)).parameters
    theirs = inspect.signature(getattr(vllm_worker_wrap.WorkerWrap, name)).parameters
    assert list(ours) == list(theirs)
    assert not re.search(r"^(from|import) openrlhf\b", source(cpu_vllm_worker) + source(cpu), re.MULTILINE)


def test_a_group_is_sampled_as_separate_requests_by_one_executor():
    text = source(plain(vllm_engine.RolloutRayActor).generate_responses)
    assert "for _ in range(num_samples)" in text and "llm_engine=self" in text
    assert "await llm_engine.generate(" in source(agent.SingleTurnAgentExecutor.execute)


def test_vllm_puts_its_worker_behind_a_spinning_queue_unless_told_otherwise():
    # The reason for VLLM_ENABLE_V1_MULTIPROCESSING=0 in `cpu.ENVIRONMENT`.
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
    from vllm.platforms.cpu import CpuPlatform

    text = source(CpuPlatform.check_and_update_config)
    assert 'os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") == "1"' in text
    assert 'parallel_config.distributed_executor_backend = "mp"' in text
    assert inspect.signature(SpinCondition).parameters["busy_loop_s"].default == 1


def test_an_exception_in_a_reward_function_is_only_logged():
    # The reason for the preflight call and for `require_rewards`.
    text = source(agent.SingleTurnAgentExecutor.execute)
    assert "except Exception as e:" in text and "Failed to fetch reward" in text


def test_reward_functions_run_in_threads():
    # The reason why math-verify's own timeouts (signals) cannot be used.
    assert "asyncio.to_thread(" in source(agent.SingleTurnAgentExecutor._fetch_rewards_via_func)


@pytest.mark.parametrize(
    ("thing", "line"),
    [
        (replay_buffer.NaiveReplayBuffer.__init__, 'torch.device(f"cuda:{torch.cuda.current_device()}")'),
        (strategy.DeepspeedStrategy.setup_distributed, '"cuda", (dp_size'),
        (vllm_worker_wrap.WorkerWrap.update_weight, 'device="cuda"'),
        (ppo_actor.ActorPPOTrainer.training_step, 'self.ema_beta, "cuda"'),
        (train_ppo_ray, 'args.ds.attn_implementation = "flash_attention_2"'),
        (vllm_worker_wrap.WorkerWrap.init_process_group, "import stateless_init_process_group"),
    ],
)
def test_the_lines_that_force_a_stand_in_are_still_there(thing, line):
    """Where upstream no longer has the line, the stand-in in training/cpu.py can go."""
    assert line in source(thing)


def test_the_stand_ins_are_in_place_without_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: nothing stands in")
    assert f"cuda:{torch.cuda.current_device()}" == "cuda:0"
    assert torch.device(torch.cuda.current_device()).type == "cpu"
    assert distributed_util.stateless_init_process_group is cpu.GlooGroup
    batch = Experience(sequences=torch.ones(1, 2))
    assert batch.to_device(torch.cuda.current_device()).sequences.device.type == "cpu"
