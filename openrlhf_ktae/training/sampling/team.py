"""Several agents on one problem: each episode goes through the roles of the task's team, one rollout a role."""

import asyncio
from dataclasses import replace
from typing import Any

from openrlhf_ktae.tasks.team import Said
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.sampling.group import Group, Sampler

GROUP_ID = "group_id"
"""Entry of a rollout's ``info``: the number of its agent's role."""


class TeamEpisodes(Sampler):
    """``group.size`` / R episodes of R roles; the rollouts of a role stand together."""

    def __init__(self, options: TrainingOptions) -> None:
        super().__init__(options)
        made = options.task().team
        assert made is not None  # `TrainingOptions.sampling`
        self._team = made()

    async def respond(self, group: Group) -> list[dict[str, Any]]:
        """Episodes side by side."""
        count = group.size // len(self._team.roles)
        episodes = await asyncio.gather(*(self._episode(group) for _ in range(count)))
        return [episode[role] for role in range(len(self._team.roles)) for episode in episodes]

    async def _episode(self, group: Group) -> list[dict[str, Any]]:
        responses: list[dict[str, Any]] = []
        said: list[Said] = []
        for role in range(len(self._team.roles)):
            prompt, label = self._team.assignment(role, group.call["prompt"], group.call["label"], said)
            agent = replace(group, call=group.call | {"prompt": prompt, "label": label})
            if not agent.fits:
                raise ValueError(
                    f"data.max_len: {agent.call['max_length']} leaves no room for rollout.max_new_tokens behind the "
                    f"prompt of the {self._team.roles[role]} ({len(agent.prompt_ids)} tokens); raise it"
                )
            (draw,) = await agent.draw()
            group.generated_tokens += agent.generated_tokens
            response = await agent.response(draw)
            said.append(Said(draw.text, float(response["scores"] or 0) > 0))
            response["extra_logs"] = (response.get("extra_logs") or {}) | {GROUP_ID: float(role)}
            responses.append(agent.traced(response, [(0, len(draw.token_ids))]))
        return responses
