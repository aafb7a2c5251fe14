"""OpenRLHF's asynchronous trainer: one actor generates, another trains, a queue between them."""

import time
from typing import Any

import openrlhf.trainer.ppo_trainer_async as ppo_trainer_async
import ray

from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.overrides import install, plain_class
from openrlhf_ktae.training.trainer import FAILED_PROMPTS, Training, with_counts

_AsyncTraining = plain_class(ppo_trainer_async.TrainingActor)
_AsyncGeneration = plain_class(ppo_trainer_async.GenerateSamplesActor)
_Async = plain_class(ppo_trainer_async.PPOTrainerAsync)


class AsyncTraining(Training, _AsyncTraining):
    """OpenRLHF's asynchronous training actor."""

    def save_logs_and_checkpoints(self, global_step: int, logs_dict=None, client_states=None) -> None:
        """As of every trainer; how many prompts failed came with the rollouts."""
        failed = {FAILED_PROMPTS: (client_states or {}).pop(FAILED_PROMPTS, 0.0)}
        super().save_logs_and_checkpoints(global_step, (logs_dict or {}) | failed, client_states)


class QueueWithFailures:
    """The queue between generator and training, into which the generator also puts how many prompts failed."""

    def __init__(self, queue: Any, generator: Any) -> None:
        self._queue, self._generator = queue, generator

    def put(self, payload: Any, block: bool = True) -> None:
        """As ray's ``Queue.put``; rollouts come with client states, evaluations and the end do not."""
        if len(payload) == 4 and isinstance(payload[1], dict):
            payload[1][FAILED_PROMPTS] = float(self._generator.failed_prompts)
        self._queue.put(payload, block=block)


class AsyncGenerator(_AsyncGeneration):
    """OpenRLHF's asynchronous generator; evaluates by correctness, and before the first step of a fresh run."""

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        install("trainer", options)
        super().__init__(*args, **kwargs)
        self.options = options
        self.rollout_queue = QueueWithFailures(self.rollout_queue, self.samples_generator)

    def _run_eval(self):
        start = time.perf_counter()
        return with_counts(self.samples_generator, super()._run_eval(), time.perf_counter() - start)

    def fit(self, episode: int, total_consumed_prompts: int) -> None:
        """Generates; a fresh run is evaluated first."""
        self.samples_generator.episode = episode
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


class AsyncTrainer(_Async):
    """OpenRLHF's asynchronous coordinator, which starts our generator and training actors."""

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        install("coordinator", options)
        super().__init__(*args, **kwargs)
