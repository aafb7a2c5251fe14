"""OpenRLHF's sample generator: replaces failed prompts, counts correct answers in evaluation, may fix the order."""

import statistics
from collections import Counter
from itertools import chain
from typing import Any

import ray
import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator, _collect_prompt_batch

from openrlhf_ktae.advantage.terms.tree_value import TreeValueOptions
from openrlhf_ktae.training.edge_pool import EdgePool
from openrlhf_ktae.training.experience_maker import require_rewards
from openrlhf_ktae.training.generation_order import seed_of
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.responses import experience_of
from openrlhf_ktae.training.rollout_batch import TRACE


class Generator(SamplesGenerator):
    """OpenRLHF's generator of rollouts, for training and for evaluation."""

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        # OpenRLHF sends the tokenizer with every prompt (samples_generator.py:235); with a vocabulary of 150,000 one
        # copy takes half a second to write and read.
        ray.get([engine.take_tokenizer.remote(self.tokenizer) for engine in self.vllm_engines])
        self.tokenizer = None
        self.problems_per_source = Counter(source for sources, *_ in self.eval_dataloader or () for source in sources)
        self.step = 0
        """Steps trained so far; the synchronous trainer counts, and sampling is seeded by it."""
        self.failed_prompts = 0
        """Prompts of the last batch that were replaced because they failed."""
        self.episode = 0
        """Number of the next pass over the data, whose order is seeded by it."""
        self._round: tuple[Any, ...] = ()
        self._says_what_for = bool(options.sampling())
        tree = TreeValueOptions(**options.sections.get("tree_value", {}))
        self._pool = EdgePool(tree.edges_per_step, tree.max_age) if options.sampling() == "tree" else None

    def generate_samples(self, **generate_kwargs):
        """As upstream, whose data loader takes its order from a generator that nothing seeds in this process."""
        if getattr(self, "_dataloader_iter", None) is None and not getattr(self, "_sample_buffer", None):
            seed = seed_of(self.args.train.seed, "order of the data", self.episode)
            self.prompts_dataloader.sampler.generator.manual_seed(seed)
            self.episode += 1
        return super().generate_samples(**generate_kwargs)

    def _generate_vllm(self, dataloader_iter, num_prompts: int, dynamic_filtering, **generate_kwargs):
        """As upstream (samples_generator.py:138-200), but a prompt that failed is replaced like a filtered one."""
        evaluates = dataloader_iter is getattr(self, "_eval_dataloader_iter", None)
        if evaluates:
            # samples_generator.py:80 would evaluate rollout.batch_size problems at a time and wait for the longest
            # response of each such round.
            num_prompts = len(self.eval_dataloader.dataset)
        if self._says_what_for:
            ray.get([engine.begin_evaluation.remote(evaluates) for engine in self.vllm_engines])
        self._round = ("evaluation" if evaluates else "training", self.step, 0)
        self.failed_prompts = 0
        if self._pool is not None and not evaluates:
            return self._generate_edges(self._pool, dataloader_iter, num_prompts, **generate_kwargs)
        groups, consumed, exhausted = self._groups(dataloader_iter, num_prompts, dynamic_filtering, **generate_kwargs)
        return list(chain.from_iterable(groups)), consumed, exhausted

    def _groups(
        self, dataloader_iter, num_prompts: int, dynamic_filtering, **generate_kwargs
    ) -> tuple[list[list[Experience]], int, bool]:
        """The rollouts of each of so many prompts, the prompts consumed, and whether the data ended."""
        kind, *_ = self._round
        accepted, consumed, exhausted = [], 0, False
        missing, pending = num_prompts, []
        while True:
            if missing and not exhausted:
                prompts, labels, images, exhausted = _collect_prompt_batch(dataloader_iter, missing)
                consumed += len(prompts)
                if prompts:
                    pending += self._dispatch_prompts_to_vllm(prompts, labels, images=images, **generate_kwargs)
            if not pending:
                return accepted, consumed, exhausted
            ready, pending = self._next(pending)
            missing = 0
            for responses in ray.get(ready):
                group = [self._process_response_into_experience(response, **generate_kwargs) for response in responses]
                failure = responses[0].get("failed") if responses and kind == "training" else None
                if failure:
                    self._count_failure(failure, num_prompts)
                if failure or (dynamic_filtering and not self._teaches(group)):
                    missing += 1
                else:
                    accepted.append(group)

    def _generate_edges(self, pool: EdgePool, dataloader_iter, num_prompts: int, **generate_kwargs):
        """A step of edges: trees of so many new prompts at least, and of more until there are enough of them."""
        pool.begin_step()
        wanted = num_prompts * self.args.rollout.n_samples_per_prompt
        missing, consumed, exhausted = num_prompts, 0, False
        while missing and not exhausted:
            trees, more, exhausted = self._groups(dataloader_iter, missing, False, **generate_kwargs)
            consumed += more
            for edges in trees:
                pool.add(edges)
            missing = pool.missing_prompts(wanted)
        if missing:
            return [], consumed, exhausted  # the data ended
        taken = pool.take(wanted)
        for edge, age in taken:
            edge.info["age"] = torch.tensor([float(age)])
        return [edge for edge, _ in taken], consumed, exhausted

    def _next(self, pending: list) -> tuple[list, list]:
        """What to look at next: whatever is ready, or, where the order is fixed, all of it in the order of the data."""
        if self.options.run.deterministic_sampling:
            return pending, []
        return ray.wait(pending, num_returns=1, timeout=10.0)

    def _dispatch_prompts_to_vllm(self, prompts, labels, *, images=None, **generate_kwargs):
        if self.options.run.deterministic_sampling:
            kind, step, number = self._round
            self._round = (kind, step, number + 1)
            seed, count = seed_of(self.args.train.seed, *self._round), len(self.vllm_engines)
            # Upstream deals the prompts out to idle engines in turn.
            expected = [len(prompts[first::count]) for first in range(count)]
            ray.get([e.begin_round.remote(seed, n) for e, n in zip(self.vllm_engines, expected, strict=True)])
        return super()._dispatch_prompts_to_vllm(prompts, labels, images=images, **generate_kwargs)

    def _process_response_into_experience(self, response, **generate_kwargs) -> Experience:
        """As upstream, with the response's trace."""
        experience = experience_of(response, generate_kwargs.get("max_len", 2048))  # upstream's default
        setattr(experience, TRACE, response.get("trace"))
        return experience

    def _teaches(self, group: list[Experience]) -> bool:
        """DAPO's filter: whether the mean score is inside of ``algo.dynamic_filtering_range``."""
        scores = [experience.scores[0].item() for experience in group if experience.scores is not None]
        low, high = self.args.algo.dynamic_filtering_range
        return len(scores) < len(group) or low < statistics.fmean(scores) < high

    def _count_failure(self, reason: str, num_prompts: int) -> None:
        self.failed_prompts += 1
        share = self.options.run.max_failed_prompts
        if self.failed_prompts > max(share * num_prompts, 1 if share else 0):
            raise ValueError(
                f"{self.failed_prompts} of {num_prompts} prompts of a step failed, more than run.max_failed_prompts "
                f"allows ({share:g}); the last: {reason}"
            )

    def generate_eval_samples(self, **generate_kwargs) -> list[Experience]:
        """As upstream, with correctness as the reward.

        compute_eval_metrics (trainer/ppo_trainer.py:77-110) averages rewards, which a format bonus or a penalty shifts.
        """
        samples = super().generate_eval_samples(**generate_kwargs)
        require_rewards(samples)
        for sample in samples:
            sample.rewards = sample.rewards if sample.scores is None else sample.scores
        return samples
