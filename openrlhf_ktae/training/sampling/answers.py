"""Several answers to every thought (GRPO-MA): a thought up to its end tag, then answers from there."""

import asyncio
from typing import Any

from openrlhf_ktae.advantage.terms.multi_answer import MultiAnswerOptions
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.sampling.group import Draw, Group, Sampler


class Answers(Sampler):
    """``group.size`` / M thoughts of M answers each; a thought's rollouts stand together."""

    def __init__(self, options: TrainingOptions) -> None:
        super().__init__(options)
        self._options = MultiAnswerOptions(**options.sections.get("multi_answer", {}))

    async def respond(self, group: Group) -> list[dict[str, Any]]:
        """Thoughts one by one, so that the answers to a short one do not wait for a long one."""
        thoughts = range(group.size // self._options.answers)
        trees = await asyncio.gather(*(self._tree(group, branch) for branch in thoughts))
        return [response for tree in trees for response in tree]

    async def _tree(self, group: Group, branch: int) -> list[dict[str, Any]]:
        count = self._options.answers
        (thought,) = await group.draw(stop=(self._options.end,))
        end = len(thought.token_ids)
        if not thought.is_open:
            # The model ended without an answer, and so would every rollout that repeats it.
            response = await group.response(thought)
            return [group.traced(dict(response), [(0, end)], branch=branch) for _ in range(count)]
        answers = await group.draw(thought.upto(end), count)
        responses = await asyncio.gather(*map(group.response, answers))
        return [
            group.traced(response, _parts(answer, end), branch=branch)
            for response, answer in zip(responses, answers, strict=True)
        ]


def _parts(answer: Draw, end: int) -> list[tuple[int, int]]:
    """Thought and answer; the thought alone where there was no room for an answer."""
    length = len(answer.token_ids)
    return [(0, end), (end, length)] if length > end else [(0, end)]
