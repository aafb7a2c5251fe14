"""Several turns with the environment of a task: the policy writes, the environment answers, until one of them ends."""

import asyncio
from dataclasses import replace
from typing import Any

from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.sampling.group import NOTHING, Group, Sampler


class Turns(Sampler):
    """``group.size`` episodes; what the environment says is no action of the policy."""

    in_evaluation = True

    def __init__(self, options: TrainingOptions) -> None:
        super().__init__(options)
        environment = options.task().environment
        assert environment is not None  # `runs/sampling_check.py`
        self._environment = environment

    async def respond(self, group: Group) -> list[dict[str, Any]]:
        """Episodes side by side, each with an environment of its own."""
        return await asyncio.gather(*(self._episode(group) for _ in range(group.size)))

    async def _episode(self, group: Group) -> dict[str, Any]:
        environment = self._environment(group.call["prompt"], group.call["label"])
        text, bounds, rewards = NOTHING, [], []
        while True:
            start = len(text.token_ids)
            (text,) = await group.draw(text, stop=environment.stop)
            if len(text.token_ids) > start:  # else there was no room left
                reply = environment.reply(text.text)
                bounds.append((start, len(text.token_ids)))
                rewards.append(reply.reward)
                said = group.tokens(reply.text) if text.is_open and not reply.done else []
                if said and len(text.token_ids) + len(said) < group.room:
                    text = text.given(said)
                    continue
                text = replace(text, is_truncated=text.is_truncated or bool(said))  # there was more to say
            response = await group.response(text)
            traced = group.traced(response, bounds, rewards=tuple(rewards))
            return traced | {"action_ranges": list(traced["trace"].bounds)}
