"""Trees of segments (SPO-tree): every prefix has several continuations, down to the ends; each edge is a rollout."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from openrlhf_ktae.advantage.segments import tree_values
from openrlhf_ktae.advantage.terms.tree_value import TreeValueOptions
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.sampling.group import NOTHING, Draw, Group, Sampler

NO_CHANGE = 1e-9
"""Edges whose value changes by less teach nothing; what is left of equal means is rounding."""


@dataclass
class _Node:
    text: Draw
    start: int
    """Tokens of the prefix that it goes on from."""
    depth: int
    children: list["_Node"] = field(default_factory=list)
    response: dict[str, Any] | None = None
    """Of a leaf, graded."""


class Tree(Sampler):
    """The edges of one tree that change the value: any number of responses, whatever ``group.size``."""

    def __init__(self, options: TrainingOptions) -> None:
        super().__init__(options)
        self._options = TreeValueOptions(**options.sections.get("tree_value", {}))

    async def respond(self, group: Group) -> list[dict[str, Any]]:
        """The whole tree first: the value of a node needs all of its leaves."""
        root = _Node(NOTHING, 0, 0)
        await self._grow(group, root)
        nodes, parents = _in_order(root)
        leaves = [node.response for node in nodes if node.response is not None]
        failed = next((leaf for leaf in leaves if leaf["reward"] is None), None)
        if failed is not None:
            return [failed]  # the actor says why, and the prompt is replaced
        values = tree_values(parents, [None if n.response is None else float(n.response["reward"]) for n in nodes])
        accuracy = sum(float(leaf["scores"] or 0) > 0 for leaf in leaves) / len(leaves)
        return [
            _edge(group, node, values[i], values[parents[i]], parents[i], accuracy)
            for i, node in enumerate(nodes)
            if parents[i] >= 0 and abs(values[i] - values[parents[i]]) > NO_CHANGE
        ]

    async def _grow(self, group: Group, node: _Node) -> None:
        if node.depth and (node.depth == len(self._options.branches) or not node.text.is_open):
            node.response = await group.response(node.text)
            return
        is_last = node.depth + 1 == len(self._options.branches)
        limit = None if is_last else self._options.segment_tokens
        start = len(node.text.token_ids)
        drawn = await group.draw(node.text, self._options.branches[node.depth], limit=limit)
        node.children = [_Node(text, start, node.depth + 1) for text in drawn]
        await asyncio.gather(*(self._grow(group, child) for child in node.children))


def _edge(group: Group, node: _Node, value: float, before: float, parent: int, accuracy: float) -> dict[str, Any]:
    """A rollout of the edge's tokens behind its prefix, worth the value at its end."""
    response = group.ungraded(node.text) | {
        "prompt": group.call["prompt"] + group.text(node.text.token_ids[: node.start]),
        "reward": value,
        "extra_logs": {"leaf_accuracy": accuracy, "depth": float(node.depth)},
    }
    traced = group.traced(response, [(node.start, len(node.text.token_ids))], values=(before,), branch=parent)
    return traced | {"action_ranges": list(traced["trace"].bounds)}


def _in_order(root: _Node) -> tuple[list[_Node], list[int]]:
    """All nodes, parents before children, and the place of each one's parent."""
    nodes, parents = [root], [-1]
    place = 0
    while place < len(nodes):
        nodes += nodes[place].children
        parents += [place] * len(nodes[place].children)
        place += 1
    return nodes, parents
