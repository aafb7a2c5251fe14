"""OpenRLHF's trainer actors (synchronous and asynchronous) with the key-token advantage and the run log.

`take_seats` puts ours where OpenRLHF's ``train()`` looks for its own.
"""

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import openrlhf.trainer.ppo_trainer as ppo_trainer
import openrlhf.trainer.ppo_trainer_async as ppo_trainer_async
import ray
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_ktae.config import KtaeConfig, RunOptions
from openrlhf_ktae.run_folder import MetricsLog, RunFolder
from openrlhf_ktae.training.experience_maker import KtaeExperienceMaker, require_rewards
from openrlhf_ktae.training.overrides import Seat, plain_class
from openrlhf_ktae.training.rollout_actor import share_tokenizer
from openrlhf_ktae.training.rollout_log import step_metrics, token_text, write_rollouts

_Sync = plain_class(ppo_trainer.PPOTrainer)
_AsyncTraining = plain_class(ppo_trainer_async.TrainingActor)
_AsyncGeneration = plain_class(ppo_trainer_async.GenerateSamplesActor)
_Async = plain_class(ppo_trainer_async.PPOTrainerAsync)

_REPLACED_METRICS = ("formatted", "timed_out", "grader_error")
"""Entries of OpenRLHF's status that the metrics hold under a better name (`rollout_log.step_metrics`)."""

_KTAE_SECONDS = "timing/ktae"
"""Not in the status: OpenRLHF adds every timing/* of it up to timing/step_total, and make_experience holds this one."""


class StopRequested(Exception):
    """Training ends early because the run folder's ``stop`` file asks for it; a checkpoint has been written."""


@dataclass(frozen=True)
class TrainerOptions:
    """What our trainers need beside OpenRLHF's own arguments."""

    run_dir: str
    ktae: KtaeConfig
    run: RunOptions


class _KtaeTraining:
    """What the synchronous trainer and the asynchronous training actor share; mixed in before OpenRLHF's class."""

    # Set by OpenRLHF's BasePPOTrainer.
    strategy: Any
    args: Any
    tokenizer: Any
    experience_maker: Any

    def _install(self, options: TrainerOptions) -> None:
        self.options = options
        # Special tokens end or pad a response; they carry no reasoning to reward.
        special = {self.tokenizer.pad_token_id, self.tokenizer.eos_token_id} - {None}
        ktae = options.ktae
        if not ktae.ignore_token_ids:
            ktae = ktae.model_copy(update={"ignore_token_ids": tuple(sorted(special))})
        maker = self.experience_maker
        self.experience_maker = KtaeExperienceMaker(
            maker.actor_model_group,
            maker.critic_model_group,
            maker.reward_model_group,
            maker.initial_model_group,
            maker.kl_ctl,
            self.strategy,
            self.tokenizer,
            ktae=ktae,
            on_experiences=self._log_rollouts,
        )
        self._token_text = token_text(self.tokenizer)
        self._folder = RunFolder(options.run_dir)
        self._metrics_log: MetricsLog | None = None
        self._step = 0
        self._step_metrics: dict[str, float] = {}

    def _log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        if self._metrics_log is None:
            self._metrics_log = MetricsLog(self._folder, first_step=step)
        self._metrics_log.write(kind, step, values)

    def _log_rollouts(self, experiences: list[Experience]) -> None:
        maker, samples = self.experience_maker, self.args.rollout.n_samples_per_prompt
        self._step_metrics = maker.metrics | step_metrics(experiences, samples)
        every = self.options.run.rollout_log_steps
        if every and (self._step == 1 or self._step % every == 0):
            folder = self._folder.rollouts
            write_rollouts(
                folder, self._step, experiences, maker.key_token_values, samples, maker.ktae, self._token_text
            )

    def train_step(self, rollout_samples, global_step: int):
        """One optimisation step, with this project's metrics in its status."""
        self._step = global_step + 1
        status, global_step = super().train_step(rollout_samples, global_step)  # pyright: ignore
        status = {name: value for name, value in status.items() if name not in _REPLACED_METRICS}
        return status | {k: v for k, v in self._step_metrics.items() if k != _KTAE_SECONDS}, global_step

    def save_logs_and_checkpoints(self, global_step: int, logs_dict=None, client_states=None) -> None:
        """Writes the step's line of metrics.jsonl, then OpenRLHF's trackers and checkpoints; ends where asked to."""
        logs = logs_dict or {}
        if _KTAE_SECONDS in self._step_metrics:
            logs = logs | {_KTAE_SECONDS: self._step_metrics[_KTAE_SECONDS]}
        self._log("train", global_step, {k: v for k, v in logs.items() if k != "generated_samples"})
        super().save_logs_and_checkpoints(global_step, logs, client_states)  # pyright: ignore
        if self._folder.stop_file.exists():
            self._checkpoint_and_stop(global_step, client_states)

    def _checkpoint_and_stop(self, global_step: int, client_states) -> None:
        if global_step % self.args.ckpt.save_steps != 0:
            every, self.args.ckpt.save_steps = self.args.ckpt.save_steps, 1
            logging_steps, self.args.logger.logging_steps = self.args.logger.logging_steps, float("inf")
            super().save_logs_and_checkpoints(global_step, {}, client_states)  # pyright: ignore
            self.args.ckpt.save_steps, self.args.logger.logging_steps = every, logging_steps
        raise StopRequested(f"stopped after step {global_step}; a checkpoint was written")

    def save_best_checkpoint(self, eval_metrics, global_step: int, client_states=None) -> None:
        """Writes the evaluation's line of metrics.jsonl: both of OpenRLHF's trainers pass every evaluation here."""
        self._log("eval", global_step, evaluation_line(eval_metrics))
        if global_step > 0:  # an untrained model is no best one, and its checkpoint could not be resumed
            super().save_best_checkpoint(eval_metrics, global_step, client_states)  # pyright: ignore


def evaluation_line(eval_metrics: dict[str, Any]) -> dict[str, float]:
    """OpenRLHF's evaluation metrics under this project's names: ``eval_math_pass1`` becomes ``math/pass@1``."""
    line = {}
    for name, value in eval_metrics.items():
        match = re.fullmatch(r"eval_(.+)_(pass(\d+)|response_length_mean|truncated_rate|n)", name)
        if match:
            line[f"{match[1]}/" + (f"pass@{match[3]}" if match[3] else match[2])] = value
        elif name == "timing/evaluation":
            line[name] = value
    return line


def _adapt_generation(trainer: Any) -> None:
    """One copy of the tokenizer per engine, and evaluation that counts correct answers, all problems at once.

    compute_eval_metrics (trainer/ppo_trainer.py:77-110) averages rewards, which a format bonus or a penalty shifts.
    samples_generator.py:80 generates rollout.batch_size problems at a time and waits for the longest response of each
    such round.
    """
    share_tokenizer(trainer.samples_generator)
    generate = trainer.samples_generator.generate_eval_samples
    rollout = trainer.samples_generator.args.rollout

    def with_scores(**kwargs) -> list[Experience]:
        batch_size, rollout.batch_size = rollout.batch_size, len(trainer.eval_dataloader.dataset)
        try:
            samples = generate(**kwargs)
        finally:
            rollout.batch_size = batch_size
        require_rewards(samples)
        for sample in samples:
            sample.rewards = sample.rewards if sample.scores is None else sample.scores
        return samples

    trainer.samples_generator.generate_eval_samples = with_scores
    dataloader = trainer.eval_dataloader
    trainer.problems_per_source = Counter(source for sources, *_ in dataloader or () for source in sources)


def _with_counts(trainer: Any, logs: dict[str, Any], seconds: float) -> dict[str, Any]:
    counts = {f"eval_{source}_n": float(count) for source, count in trainer.problems_per_source.items()}
    return logs | counts | {"timing/evaluation": seconds}


class KtaePPOTrainer(_KtaeTraining, _Sync):
    """OpenRLHF's synchronous trainer with KTAE."""

    def __init__(self, *args, options: TrainerOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._install(options)
        _adapt_generation(self)

    def fit(self, global_step: int = 0) -> None:
        """Trains; evaluates before the first step of a fresh run and after the last step of any run."""
        if not self.eval_dataloader:
            return super().fit(global_step)
        if self.options.run.evaluate_first and self.init_checkpoint_states()["global_step"] == 0:
            self._evaluate_now(0)
        super().fit(global_step)
        if self._step % self.args.eval.steps != 0:
            # OpenRLHF has closed its trackers by now.
            self.wandb_logger = self.tensorboard_logger = None
            self._evaluate_now(self._step)

    def _evaluate_now(self, step: int) -> None:
        kwargs = self.generate_kwargs | {
            "temperature": self.args.eval.temperature,
            "n_samples_per_prompt": self.args.eval.n_samples_per_prompt,
        }
        self._log("eval", step, evaluation_line(self.evaluate(step, **kwargs)))

    def evaluate(self, global_step, **generate_kwargs):
        """OpenRLHF's evaluation, by correctness, with the number of problems and the seconds it took."""
        start = time.perf_counter()
        logs = super().evaluate(global_step, **generate_kwargs)
        return _with_counts(self, logs, time.perf_counter() - start)


class KtaeTrainingActor(_KtaeTraining, _AsyncTraining):
    """OpenRLHF's asynchronous training actor with KTAE."""

    def __init__(self, *args, options: TrainerOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._install(options)


class KtaeGenerateSamplesActor(_AsyncGeneration):
    """OpenRLHF's asynchronous generator; evaluates by correctness, and before the first step of a fresh run."""

    def __init__(self, *args, options: TrainerOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        _adapt_generation(self)

    def _run_eval(self):
        start = time.perf_counter()
        return _with_counts(self, super()._run_eval(), time.perf_counter() - start)

    def fit(self, episode: int, total_consumed_prompts: int) -> None:
        """Generates; a fresh run is evaluated first."""
        if self.eval_dataloader and self.options.run.evaluate_first and total_consumed_prompts == 0:
            # An evaluation result gives one slot token back to the trainer, so one has to be taken first.
            self.rollout_slots.get(block=True)
            ray.get(self.vllm_lock.acquire.remote())
            try:
                metrics = self._run_eval()
            finally:
                ray.get(self.vllm_lock.release.remote())
            self.rollout_queue.put(("eval", 0, metrics), block=True)
        super().fit(episode, total_consumed_prompts)


class KtaePPOTrainerAsync(_Async):
    """OpenRLHF's asynchronous coordinator, which starts our generator and training actors."""

    def __init__(self, *args, options: TrainerOptions, **kwargs) -> None:
        # PPOTrainerAsync.__init__ finds both classes by name in its module, in this process.
        ppo_trainer_async.GenerateSamplesActor = Seat(KtaeGenerateSamplesActor, options=options)  # pyright: ignore
        ppo_trainer_async.TrainingActor = Seat(KtaeTrainingActor, options=options)  # pyright: ignore
        super().__init__(*args, **kwargs)


def take_seats(options: TrainerOptions) -> None:
    """Puts our trainers where OpenRLHF's train() imports its own (cli/train_ppo_ray.py:181-184)."""
    ppo_trainer.PPOTrainer = Seat(KtaePPOTrainer, options=options)  # pyright: ignore
    ppo_trainer_async.PPOTrainerAsync = Seat(KtaePPOTrainerAsync, options=options)  # pyright: ignore
