"""Values of prefixes by Monte Carlo (SPO-chain): rollouts are cut, and continuations from every cut are graded."""

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import Any

from openrlhf_ktae.advantage.terms.segment_value import SegmentValueOptions
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.sampling.group import Draw, Group, Sampler


class Chain(Sampler):
    """``group.size`` rollouts, each with the values of its prefixes."""

    def __init__(self, options: TrainingOptions) -> None:
        super().__init__(options)
        self._options = SegmentValueOptions(**options.sections.get("segment_value", {}))

    async def respond(self, group: Group) -> list[dict[str, Any]]:
        """Rollouts in one request, then all continuations of all cuts at once."""
        rollouts = await group.draw(count=group.size)
        return await asyncio.gather(*(self._valued(group, rollout) for rollout in rollouts))

    async def _valued(self, group: Group, rollout: Draw) -> dict[str, Any]:
        cuts = cut_points(rollout.log_probs, self._options)
        values = await asyncio.gather(*(self._value(group, rollout.upto(cut)) for cut in cuts))
        edges = [0, *cuts, len(rollout.token_ids)]
        response = await group.response(rollout)
        if any(map(math.isnan, values)):
            response["reward"] = None  # the prompt is replaced, as where a rollout's own reward fails
        return group.traced(response, list(itertools.pairwise(edges)), values=(None, *values))

    async def _value(self, group: Group, prefix: Draw) -> float:
        continuations = await group.draw(prefix, self._options.continuations)
        responses = await asyncio.gather(*map(group.response, continuations))
        rewards = [response["reward"] for response in responses]
        if any(reward is None for reward in rewards):
            return math.nan
        return math.fsum(map(float, rewards)) / len(rewards)


def cut_points(log_probs: Sequence[float], options: SegmentValueOptions) -> list[int]:
    """Lengths of the prefixes that are valued: behind every ``cut_every``-th token below ``threshold``.

    None behind the last token: what stands there is the rollout itself.
    """
    bound = math.log(options.threshold)
    uncertain = [place for place, log_prob in enumerate(log_probs) if log_prob < bound or options.threshold == 1]
    cuts = [place + 1 for place in uncertain[options.cut_every - 1 :: options.cut_every]]
    return [cut for cut in cuts if cut < len(log_probs)][: options.max_cuts]
