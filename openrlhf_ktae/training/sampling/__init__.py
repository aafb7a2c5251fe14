"""How the rollouts of a prompt are sampled, where each by itself is not enough: branches, continuations, turns.

A way of sampling is one class here. It stands in the vLLM actor, draws from the engine through `Group` and returns the
responses of one prompt, all of them or none: what a prompt's tree lacks is never trained on.
"""

from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.sampling.answers import Answers
from openrlhf_ktae.training.sampling.chain import Chain
from openrlhf_ktae.training.sampling.group import Sampler
from openrlhf_ktae.training.sampling.team import TeamEpisodes
from openrlhf_ktae.training.sampling.tree import Tree
from openrlhf_ktae.training.sampling.turns import Turns

SAMPLERS: dict[str, type[Sampler]] = {
    "answers": Answers,
    "chain": Chain,
    "team": TeamEpisodes,
    "tree": Tree,
    "turns": Turns,
}
"""By `AdvantageTerm.sampling`; `BaseTask.sampling` goes before it."""


def sampler_of(options: TrainingOptions) -> Sampler | None:
    """The way of sampling of a run; None: each rollout by itself."""
    name = options.sampling()
    return SAMPLERS[name](options) if name else None
