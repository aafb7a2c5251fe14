"""The policy actor: OpenRLHF's, with the run's policy loss, its passes, and entropies where a term needs them."""

from collections.abc import Callable
from statistics import fmean
from typing import Any

import openrlhf.trainer.ray.ppo_actor as ppo_actor
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.loss_utils import get_loss_batch_info

from openrlhf_ktae.losses.loss import LossInputs, LossResult, PolicyLoss
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.training import guards, overrides
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.ports import hold_port

_SUMS_OVER_TOKENS = ("policy_loss", "entropy_loss", "kl")
"""Metrics that are a sum over the tokens of a pass, divided by all tokens (ppo_actor.py:255-295)."""

_PolicyActor = overrides.plain_class(ppo_actor.PolicyModelActor)


def _columns(info: dict[str, Any]) -> dict[str, torch.Tensor]:
    """(B,) numbers by name; the replay buffer leaves lists of single ones (experience.py:221)."""
    stacked = {name: torch.stack(values) if isinstance(values, list) else values for name, values in info.items()}
    return {name: values.float() for name, values in stacked.items() if values.dim() == 1}


class LossInSeat:
    """Called as OpenRLHF's PolicyLoss is (ppo_actor.py:255), answers with ours.

    The arguments of that call are those of a token-level loss; `begin` brings the rest of the micro-batch.
    """

    def __init__(self, name: str, loss: PolicyLoss, upstream: Callable[..., Any]) -> None:
        self._name, self._loss, self._upstream = name, loss, upstream
        self._experience: Experience | None = None

    def begin(self, experience: Experience) -> None:
        """Names the micro-batch that the next call is about."""
        self._experience = experience

    def __call__(self, log_probs, old_log_probs, advantages, action_mask, rollout_log_probs, **batch_info):
        """Returns what upstream's forward does: loss, clip ratio, KL, and two values of its sampler correction."""
        experience = self._experience
        assert experience is not None  # `PolicyTrainer.training_step` has called `begin`
        arguments = (log_probs, old_log_probs, advantages)
        keywords = {"action_mask": action_mask, "rollout_log_probs": rollout_log_probs}
        theirs: list[Any] = []

        def openrlhf() -> torch.Tensor:
            theirs[:] = self._upstream(*arguments, **keywords, **batch_info)
            return theirs[0]

        inputs = LossInputs(
            *arguments, mask=action_mask, ref_log_probs=experience.base_action_log_probs,
            rollout_log_probs=rollout_log_probs, rewards=experience.rewards, info=_columns(experience.info),
            prompts=experience.prompts, openrlhf=openrlhf, data_parallel_size=batch_info["dp_size"],
            tokens=batch_info["batch_num_tokens"], rollouts=batch_info["global_batch_size"],
        )  # fmt: skip
        result = self._loss.loss(inputs)
        result = result if isinstance(result, LossResult) else LossResult(result)
        for name, value in result.metrics.items():
            key = name if name.startswith(f"{self._name}/") else f"{self._name}/{name}"
            experience.info[key] = value.detach()
        if theirs:
            return result.loss, *theirs[1:]
        tokens = action_mask.sum().clamp(min=1)
        ppo_kl = ((old_log_probs - log_probs.detach()) * action_mask).sum() / tokens
        return result.loss, torch.zeros(()), ppo_kl, None, None


class PolicyTrainer(ppo_actor.ActorPPOTrainer):
    """OpenRLHF's optimisation of the policy, over several passes with masks of their own where the loss asks."""

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.loss = options.policy_loss()
        self.loss.prepare(self.args)
        self._pass = 0
        buffer: Any = self.replay_buffer
        buffer.update_size = self.strategy.accumulated_gradient * self.micro_train_batch_size  # `length_sorted`
        name = options.sections["policy_loss"]["name"]
        if name != "openrlhf":
            self.actor_loss_fn = LossInSeat(section_of(name), self.loss, self.actor_loss_fn)

    def ppo_train(self, kl_ctl: float) -> dict[str, float]:
        """Upstream's pass over the rollouts, as often as the loss asks."""
        passes = []
        for self._pass in range(self.loss.passes):  # noqa: B020
            passes.append(super().ppo_train(kl_ctl))
        if len(passes) == 1:
            return passes[0]
        # What is a mean over all tokens in either pass adds up over the passes.
        return {
            name: sum(values) if name in _SUMS_OVER_TOKENS else fmean(values)
            for name in passes[0]
            if (values := [status[name] for status in passes])
        }

    def training_step(self, experience: Experience, kl_ctl: float, step: int, loss_batch_info=None) -> dict[str, Any]:
        """Upstream's, on the tokens of this pass."""
        if not isinstance(self.actor_loss_fn, LossInSeat):
            return super().training_step(experience, kl_ctl, step, loss_batch_info)
        self.actor_loss_fn.begin(experience)
        every_token: Any = experience.action_mask
        if loss_batch_info is None:  # before the mask changes: denominators stay those of all tokens
            loss_batch_info = get_loss_batch_info(
                self.strategy, every_token, replay_buffer=self.replay_buffer, step=step,
                dynamic_batch=self.args.train.dynamic_batch_enable,
            )  # fmt: skip
        mask: Any = self.loss.pass_mask(self._pass, experience.action_log_probs, every_token).to(every_token.dtype)
        experience.action_mask = mask
        kl_ctl = 0.0 if self.loss.includes_kl else kl_ctl
        status: dict[str, Any] = super().training_step(experience, kl_ctl, step, loss_batch_info)
        status["num_action_tokens"] = float(every_token.sum())
        if not mask.any():  # upstream's means over the tokens of the pass are 0 / 0 then
            status["metrics"] = {k: _without_nan(value) for k, value in status["metrics"].items()}
        return status


def _without_nan(value: Any) -> Any:
    return value.nan_to_num() if isinstance(value, torch.Tensor) else value


class PolicyActor(_PolicyActor):
    """OpenRLHF's policy actor."""

    _get_free_port = staticmethod(hold_port)

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        self._returns_entropies = "entropies" in options.needs()
        overrides.install("policy", options)

    def init_model_from_pretrained(self, strategy, pretrain, max_steps=None, vllm_engines=None):
        """As upstream; the learning-rate schedule spans all passes."""
        steps = None if max_steps is None else max_steps * self.options.policy_loss().passes
        return super().init_model_from_pretrained(strategy, pretrain, steps, vllm_engines)

    def fit(self, kl_ctl: float = 0) -> dict[str, float]:
        """Upstream's updates, and how many weights are not finite after them, over all workers."""
        status = super().fit(kl_ctl)
        count = guards.count_non_finite(self.actor.model.parameters())
        return status | self.strategy.all_reduce({guards.WEIGHTS: float(count)}, "sum")

    def forward(self, sequences, action_mask=None, attention_mask=None, packed_seq_lens=None, **multimodal):
        """Log-probabilities (B, T); with their entropies, of the same pass, where a term needs them."""
        if not self._returns_entropies:
            return super().forward(sequences, action_mask, attention_mask, packed_seq_lens, **multimodal)
        assert action_mask is not None and attention_mask is not None  # what the experience maker sends
        device = torch.cuda.current_device()
        self.actor.eval()
        with torch.no_grad():
            log_probs, output = self.actor(
                sequences.to(device), action_mask.to(device), attention_mask.to(device), return_output=True,
                return_entropy=True, ring_attn_group=self.strategy.ring_attn_group,
            )  # fmt: skip
        self.actor.train()
        entropies = output.entropy[:, -action_mask.shape[1] :] * action_mask.to(device)
        return log_probs.to("cpu"), entropies.to("cpu")
