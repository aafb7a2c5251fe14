"""Slow references of credit from branches and turns: plain Python from the papers, one number at a time."""

import itertools
import math


def mean(numbers):
    return sum(numbers) / len(numbers)


def normalise(numbers, epsilon):
    """Each number less the mean, over the unbiased deviation."""
    centre = mean(numbers)
    spread = math.sqrt(sum((x - centre) ** 2 for x in numbers) / (len(numbers) - 1)) if len(numbers) > 1 else 0.0
    return [(x - centre) / (spread + epsilon) for x in numbers]


def multi_answer(rewards_by_thought, epsilon=1e-9):
    """GRPO-MA on one prompt: (advantage of each thought, advantages of its answers)."""
    thoughts = normalise([mean(rewards) for rewards in rewards_by_thought], epsilon)
    answers = iter(normalise([reward for rewards in rewards_by_thought for reward in rewards], epsilon))
    return [
        (thought, [next(answers) for _ in rewards])
        for thought, rewards in zip(thoughts, rewards_by_thought, strict=True)
    ]


def turn_level(outcomes, turn_rewards, gamma, weight, epsilon=1e-4):
    """One prompt: advantages by rollout and turn; ``turn_rewards`` holds a list per rollout."""
    returns = [
        [sum(gamma ** (later - turn) * r[later] for later in range(turn, len(r))) for turn in range(len(r))]
        for r in turn_rewards
    ]
    advantages = [[0.0] * len(r) for r in turn_rewards]
    for turn in range(max(map(len, turn_rewards))):
        there = [i for i, r in enumerate(turn_rewards) if len(r) > turn]
        for i, value in zip(there, normalise([returns[i][turn] for i in there], epsilon), strict=True):
            advantages[i][turn] = weight * value
    if outcomes is not None:
        for row, value in zip(advantages, normalise(outcomes, epsilon), strict=True):
            row[:] = [value + x for x in row]
    return advantages


def chain(values_of_cuts, reward, value_of_prompt):
    """SPO-chain on one rollout: the advantage of each segment, from the values at its cuts."""
    values = [value_of_prompt, *values_of_cuts, reward]
    return [after - before for before, after in itertools.pairwise(values)]


def functional_group(rewards, agents):
    """AdvEvo-MARL on one prompt."""
    of_agent = {agent: [x for x, other in zip(rewards, agents, strict=True) if other == agent] for agent in agents}
    return [reward - mean(of_agent[agent]) for reward, agent in zip(rewards, agents, strict=True)]


def tree_value(node):
    """SPO-tree: a leaf is its reward, a node (the list of its children) their mean."""
    return mean([tree_value(child) for child in node]) if isinstance(node, list) else node
