"""OpenRLHF's sample generator: the tokenizer goes to every engine once, evaluation counts correct answers."""

from collections import Counter

import ray
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from openrlhf_ktae.training.experience_maker import require_rewards
from openrlhf_ktae.training.options import TrainingOptions


class Generator(SamplesGenerator):
    """OpenRLHF's generator of rollouts, for training and for evaluation."""

    def __init__(self, *args, options: TrainingOptions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # OpenRLHF sends the tokenizer with every prompt (samples_generator.py:235); with a vocabulary of 150,000 one
        # copy takes half a second to write and read.
        ray.get([engine.take_tokenizer.remote(self.tokenizer) for engine in self.vllm_engines])
        self.tokenizer = None
        self.problems_per_source = Counter(source for sources, *_ in self.eval_dataloader or () for source in sources)

    def _generate_vllm(self, dataloader_iter, num_prompts: int, dynamic_filtering, **generate_kwargs):
        if dataloader_iter is getattr(self, "_eval_dataloader_iter", None):
            # samples_generator.py:80 would evaluate rollout.batch_size problems at a time and wait for the longest
            # response of each such round.
            num_prompts = len(self.eval_dataloader.dataset)
        return super()._generate_vllm(dataloader_iter, num_prompts, dynamic_filtering, **generate_kwargs)

    def generate_eval_samples(self, **generate_kwargs) -> list[Experience]:
        """As upstream, with correctness as the reward.

        compute_eval_metrics (trainer/ppo_trainer.py:77-110) averages rewards, which a format bonus or a penalty shifts.
        """
        samples = super().generate_eval_samples(**generate_kwargs)
        require_rewards(samples)
        for sample in samples:
            sample.rewards = sample.rewards if sample.scores is None else sample.scores
        return samples
