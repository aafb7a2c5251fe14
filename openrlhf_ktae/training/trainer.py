"""OpenRLHF's trainer with the run's metrics, rollout log and stop file (`async_trainer`: the asynchronous one)."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openrlhf.trainer.ppo_trainer as ppo_trainer
import ray

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.term import Outcome
from openrlhf_ktae.run_folder import ENGINE_DIED, Failure, MetricsLog, RunFolder
from openrlhf_ktae.training import guards
from openrlhf_ktae.training.experience_maker import ExperienceMaker
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.overrides import install, plain_class
from openrlhf_ktae.training.rollout_log import RolloutLog, token_text
from openrlhf_ktae.training.step_metrics import GENERATED_TOKENS, step_metrics

_Sync = plain_class(ppo_trainer.PPOTrainer)

_REPLACED_METRICS = (
    "formatted", "timed_out", "grader_error", GENERATED_TOKENS, "group_id", "leaf_accuracy", "depth", "age",
)  # fmt: skip
"""Entries of OpenRLHF's status that the metrics hold under a better name (`step_metrics`, the terms)."""

_TERMS_STATE = "advantage_terms"
"""Entry of a checkpoint's client state that holds the state of the advantage terms, by name."""

FAILED_PROMPTS = "rollout/failed_prompts"
"""Metric: prompts of the step that failed and were replaced."""

_KL_STATE = "kl_coefficient"
"""Entry of a checkpoint's client state that holds the KL controller's value."""

_SECONDS_TO_REPORT = 15.0
"""What else an engine's death makes fail has failed by then, and says more."""


class StopRequested(Exception):
    """Training ends early because the run folder's ``stop`` file asks for it; a checkpoint has been written."""


class Training:
    """What the synchronous trainer and the asynchronous training actor share; mixed in before OpenRLHF's class."""

    # Set by OpenRLHF's BasePPOTrainer.
    args: Any
    tokenizer: Any
    vllm_engines: list[Any]
    experience_maker: ExperienceMaker

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        install("trainer", options)
        super().__init__(*args, **kwargs)
        self.options = options
        self._folder = RunFolder(options.run_dir)
        self._rollout_log = RolloutLog(self._folder.rollouts, token_text(self.tokenizer), options.run.rollout_log_share)
        self._to_log: tuple[RolloutBatch, Outcome] | None = None
        self._metrics_log: MetricsLog | None = None
        self._first_step = 0
        self._step = 0
        self._term_seconds: dict[str, float] = {}
        self._rollouts: Any = None  # batch and outcome of the step that is being trained on
        self._collapse = self._new_watch()
        threading.Thread(target=end_with_engines, args=(self.vllm_engines, self._folder), daemon=True).start()

    def _log(self, kind: str, step: int, values: dict[str, Any]) -> None:
        if self._metrics_log is None:
            self._metrics_log = MetricsLog(self._folder, first_step=self._first_step)
        self._metrics_log.write(kind, step, values)

    def train_step(self, rollout_samples, global_step: int):
        """One optimisation step, with this project's metrics in its status."""
        self._step = self.experience_maker.step = global_step + 1
        status, global_step = super().train_step(rollout_samples, global_step)  # pyright: ignore
        return {name: value for name, value in status.items() if name not in _REPLACED_METRICS}, global_step

    def _compute_rollout_stats(self, experiences) -> dict[str, float]:
        """Upstream's statistics and ours; called once a step, outside of what timing/make_experience counts."""
        stats = super()._compute_rollout_stats(experiences)  # pyright: ignore
        maker = self.experience_maker
        batch, outcome = maker.batch, maker.outcome
        assert batch is not None and outcome is not None  # made by `make_experience_batch` just before
        self._rollouts = batch, outcome
        with self._rollouts_kept_if_it_fails():
            guards.check_batch(batch, outcome.advantages)
        every = self.options.run.rollout_log_steps
        if every and (self._step == 1 or self._step % every == 0):
            self._to_log = batch, outcome
        maker.batch = maker.outcome = None
        # Not in the status: OpenRLHF adds its timing/* up to timing/step_total, and make_experience holds these.
        self._term_seconds = {f"timing/{name}": seconds for name, seconds in outcome.seconds.items()}
        return stats | step_metrics(batch) | outcome.metrics

    def ppo_train(self, global_steps: int) -> dict[str, Any]:
        """Upstream's updates; stops before their weights go to vLLM if something is not finite.

        The rollout log is written meanwhile, while this process only waits for the policy.
        """
        if self._to_log is not None:
            batch, outcome = self._to_log
            self._rollout_log.add(batch, outcome, self.experience_maker.terms)
            self._to_log = None
        status = super().ppo_train(global_steps)  # pyright: ignore
        with self._rollouts_kept_if_it_fails():
            guards.check_update(status, self._step)
        self._rollouts = None
        return {name: value for name, value in status.items() if name != guards.WEIGHTS}

    @contextmanager
    def _rollouts_kept_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except guards.Diverged:
            batch, outcome = self._rollouts
            self._rollout_log.add(batch, outcome, self.experience_maker.terms)
            raise

    def fit(self, global_step: int = 0) -> None:
        """Trains; however it ends, the rollout log of its steps is complete."""
        try:
            super().fit(global_step)  # pyright: ignore
        finally:
            self._rollout_log.finish()

    def save_logs_and_checkpoints(self, global_step: int, logs_dict=None, client_states=None) -> None:
        """Writes the step's line of metrics.jsonl, then OpenRLHF's trackers and checkpoints; ends where asked to."""
        logs = (logs_dict or {}) | self._term_seconds
        logs["rollout/collapsed_steps"] = float(self._collapse.see(logs))
        self._log("train", global_step, {k: v for k, v in logs.items() if k != "generated_samples"})
        client_states = self._with_state(client_states)
        every = self.args.ckpt.save_steps
        if global_step % every == 0 or self._folder.stop_file.exists():
            self._rollout_log.finish()  # a run that goes on from a checkpoint has the rollouts up to there
        # A checkpoint of a policy that looks collapsed would push a good one out.
        with self._checkpoint_every(float("inf") if self._collapse.steps else every):
            super().save_logs_and_checkpoints(global_step, logs, client_states)  # pyright: ignore
        self._collapse.check(global_step, self.options.run)
        if self._folder.stop_file.exists():
            if global_step % every != 0 or self._collapse.steps:
                logging_steps, self.args.logger.logging_steps = self.args.logger.logging_steps, float("inf")
                try:
                    with self._checkpoint_every(1):
                        super().save_logs_and_checkpoints(global_step, {}, client_states)  # pyright: ignore
                finally:
                    self.args.logger.logging_steps = logging_steps
            raise StopRequested(f"stopped after step {global_step}; a checkpoint was written")

    @contextmanager
    def _checkpoint_every(self, steps: float) -> Iterator[None]:
        """Inside, upstream writes a checkpoint where the step number divides by ``steps``."""
        before, self.args.ckpt.save_steps = self.args.ckpt.save_steps, steps
        try:
            yield
        finally:
            self.args.ckpt.save_steps = before

    def save_best_checkpoint(self, eval_metrics, global_step: int, client_states=None) -> None:
        """Writes the evaluation's line of metrics.jsonl: both of OpenRLHF's trainers pass every evaluation here."""
        self._log("eval", global_step, evaluation_line(eval_metrics))
        if global_step > 0:  # an untrained model is no best one, and its checkpoint could not be resumed
            self._rollout_log.finish()
            super().save_best_checkpoint(eval_metrics, global_step, self._with_state(client_states))  # pyright: ignore

    def _with_state(self, client_states: dict[str, Any] | None) -> dict[str, Any]:
        states = {name: term.state_dict() for name, term in self.experience_maker.terms.items()}
        terms = {name: state for name, state in states.items() if state}
        return (client_states or {}) | {_TERMS_STATE: terms, _KL_STATE: self.experience_maker.kl_ctl.value}

    def init_checkpoint_states(self) -> dict[str, Any]:
        """Where a resumed run goes on; terms, KL controller and the watch for collapse take up their state here."""
        states = _after_a_whole_episode(super().init_checkpoint_states())  # pyright: ignore
        for name, state in states.get(_TERMS_STATE, {}).items():
            if name in self.experience_maker.terms:
                self.experience_maker.terms[name].load_state_dict(state)
        self.experience_maker.kl_ctl.value = states.get(_KL_STATE, self.experience_maker.kl_ctl.value)
        self._collapse = self._new_watch()
        self._step = states["global_step"]
        self._first_step = self._step + 1 if self._step else 0
        for line in self._folder.metrics():
            if line["kind"] == "train" and line["step"] <= self._step:
                self._collapse.see(line)
        return states

    def _new_watch(self) -> guards.CollapseWatch:
        return guards.CollapseWatch(len(getattr(self.tokenizer, "tokenizer", self.tokenizer)))


def end_with_engines(engines: list[Any], folder: RunFolder) -> None:
    """Ends this process, and with it the run, some seconds after a rollout actor has died.

    Who waits for an actor's answer learns of its death from Ray. The policy that sends its weights does not: what it
    waits in, NCCL or gloo, need not end when an engine does, and an engine may outlive its actor.
    """
    ray.wait([engine.outlast.remote() for engine in engines], num_returns=1, timeout=None)
    time.sleep(_SECONDS_TO_REPORT)
    folder.write_failure(Failure(ENGINE_DIED, may_pass=True))
    os._exit(1)


def _after_a_whole_episode(states: dict[str, Any]) -> dict[str, Any]:
    """Makes a checkpoint of an episode's last step go on with the next episode.

    torchdata begins a pass anew whose state says that it is finished (stateful_dataloader.py:407): OpenRLHF would train
    on the whole episode again.
    """
    if not states["data_loader_state_dict"].get("_iterator_finished"):
        return states
    return states | {"episode": states["episode"] + 1, "data_loader_state_dict": {}}


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


def with_counts(generator: Any, logs: dict[str, Any], seconds: float) -> dict[str, Any]:
    """An evaluation's metrics with the number of problems of each source and the seconds it took."""
    counts = {f"eval_{source}_n": float(count) for source, count in generator.problems_per_source.items()}
    return logs | counts | {"timing/evaluation": seconds}


class Trainer(Training, _Sync):
    """OpenRLHF's synchronous trainer."""

    def train_step(self, rollout_samples, global_step: int):
        """One optimisation step; the generator's next samples belong to the step after it."""
        failed = {FAILED_PROMPTS: float(self.samples_generator.failed_prompts)}
        status, self.samples_generator.step = super().train_step(rollout_samples, global_step)
        return status | failed, self.samples_generator.step

    def init_checkpoint_states(self) -> dict[str, Any]:
        """As of every trainer; sampling goes on from there too."""
        states = super().init_checkpoint_states()
        self.samples_generator.step, self.samples_generator.episode = states["global_step"], states["episode"]
        return states

    def fit(self, global_step: int = 0) -> None:
        """Trains; evaluates before the first step of a fresh run and after the last step of any run."""
        if not self.eval_dataloader:
            return super().fit(global_step)
        states = self.init_checkpoint_states()
        if self._step == 0 and self.options.run.evaluate_first:
            self._evaluate_now(0)
        elif self._step > 0 and self._step % self.args.eval.steps == 0 and not self._is_evaluated():
            self._make_up_for_evaluation(states)
        super().fit(global_step)
        if self._step % self.args.eval.steps != 0 and not self._is_evaluated():
            # OpenRLHF has closed its trackers by now.
            self.wandb_logger = self.tensorboard_logger = None
            self._evaluate_now(self._step)

    def _is_evaluated(self) -> bool:
        return any(line["kind"] == "eval" and line["step"] == self._step for line in self._folder.metrics())

    def _make_up_for_evaluation(self, states: dict[str, Any]) -> None:
        """Evaluates a step that has its checkpoint, and ended before its evaluation, which comes after that."""
        self.restore_best_checkpoint_state(states)
        self.broadcast_to_vllm()
        logs = self.evaluate(self._step, **self._evaluation_options())
        names = ("episode", "global_step", "total_consumed_prompts", "data_loader_state_dict")
        self.save_best_checkpoint(logs, self._step, {name: states[name] for name in names})

    def _evaluation_options(self) -> dict[str, Any]:
        return self.generate_kwargs | {
            "temperature": self.args.eval.temperature,
            "n_samples_per_prompt": self.args.eval.n_samples_per_prompt,
        }

    def _evaluate_now(self, step: int) -> None:
        self._log("eval", step, evaluation_line(self.evaluate(step, **self._evaluation_options())))

    def evaluate(self, global_step, **generate_kwargs):
        """OpenRLHF's evaluation, by correctness, with the number of problems and the seconds it took."""
        start = time.perf_counter()
        logs = super().evaluate(global_step, **generate_kwargs)
        return with_counts(self.samples_generator, logs, time.perf_counter() - start)
