"""SPO-tree: values and edges against a slow reference on random trees, the pool of edges, and what is refused."""

import asyncio
import itertools
import math
import random
from types import SimpleNamespace

import branch_references as reference
import pytest
import torch
from openrlhf_parts import arguments, training_options
from segment_batches import applied, assert_segments_have, batch, bounds_of
from toy_policy import PROMPT, actor, gambler, respond, success, text_of

from openrlhf_ktae.advantage.segments import Trace, tree_values
from openrlhf_ktae.advantage.term import TERM
from openrlhf_ktae.training import samples_generator
from openrlhf_ktae.training.edge_pool import EdgePool


def random_tree(seed: int):
    """Parents and rewards as lists, and the same tree nested: a leaf is its reward, a node the list of its children."""
    rng = random.Random(seed)

    def grow(depth):
        if depth == 4 or (depth > 0 and rng.random() < 0.3):
            return rng.choice([0.0, 1.0, rng.random()])
        return [grow(depth + 1) for _ in range(rng.randint(1, 4))]

    nested, nodes, parents = grow(0), [], [-1]
    nodes.append(nested)
    for place in itertools.count():
        if place == len(nodes):
            break
        if isinstance(nodes[place], list):
            parents += [place] * len(nodes[place])
            nodes += nodes[place]
    rewards = [None if isinstance(node, list) else node for node in nodes]
    return parents, rewards, nodes


@pytest.mark.parametrize("seed", range(20))
def test_values_of_a_tree_equal_their_reference(seed):
    parents, rewards, nodes = random_tree(seed)
    assert tree_values(parents, rewards) == pytest.approx([reference.tree_value(node) for node in nodes], abs=1e-12)


def test_a_node_without_children_needs_a_reward():
    with pytest.raises(ValueError, match="node 1 of a tree has neither children nor a reward"):
        tree_values([-1, 0], [None, None])


@pytest.mark.parametrize("seed", range(5))
def test_the_advantage_of_an_edge_is_the_change_of_value(seed):
    parents, _, nodes = random_tree(seed)
    edges = [
        (torch.tensor(reference.tree_value(nodes[i])).item(), reference.tree_value(nodes[parent]))
        for i, parent in enumerate(parents)
        if parent >= 0
    ]
    of = batch(
        [Trace(bounds_of([3]), values=(before,)) for _, before in edges], [v for v, _ in edges], [0] * len(edges)
    )
    found = applied("tree_value", of)
    assert_segments_have(found.advantages, of, [[after - before] for after, before in edges])


def test_a_tree_with_one_branch_is_the_chain():
    """A path of prefixes with known values: its edges have the advantages of the chain's segments."""
    values, reward, of_prompt = [0.3, 0.9, 0.4], 1.0, 0.5
    path = [of_prompt, *values, reward]
    chain = batch([Trace(bounds_of([2, 1, 3, 2]), values=tuple(path[:-1]))] * 2, [reward] * 2, [0, 0])
    edges = batch(
        [Trace(bounds_of([length]), values=(before,)) for length, before in zip([2, 1, 3, 2], path, strict=False)],
        path[1:], [0] * 4,
    )  # fmt: skip
    of_chain = applied("segment_value", chain, threshold=1.0).advantages[0]
    of_edges = applied("tree_value", edges).advantages
    for number in range(4):
        segment = chain.segments.number[0] == number  # pyright: ignore[reportOptionalMemberAccess]
        torch.testing.assert_close(of_chain[segment], of_edges[number][edges.mask[number]])


def test_a_rollout_that_is_no_edge_is_refused():
    with pytest.raises(ValueError, match="rollout 1: no value before its segment; tree_value trains on the edges"):
        applied("tree_value", batch([Trace(bounds_of([2]), values=(0.5,)), Trace(bounds_of([2]))], [1, 0], [0, 0]))


def tree(logprobs=None, worth=lambda text: float(text.count("a") >= 4), **options):
    options = training_options(("tree_value",), tree_value={"branches": (3, 2, 2), "segment_tokens": 2} | options)
    made = actor(gambler, worth, options)
    return made, respond(made, 8, logprobs=logprobs)


def test_every_edge_that_changes_the_value_is_a_rollout_behind_its_prefix():
    made, responses = tree(logprobs=1)
    assert responses
    for response in responses:
        ((start, end),) = response["action_ranges"]
        assert response["trace"].bounds == ((start, end),) and end == len(response["observation_tokens"])
        assert response["prompt"] == text_of(response, 0, start)
        depth = int(response["extra_logs"]["depth"])
        assert start == len(PROMPT) + 2 * (depth - 1)
        assert (end - start == 2) if depth < 3 else (end - start == 3)  # the last goes on to the end of the sequence
        assert abs(response["reward"] - response["trace"].values[0]) > 1e-9
        assert not response["rollout_log_probs"][:4].any() and len(response["rollout_log_probs"]) == end
        if depth == 3:
            assert response["reward"] == float(text_of(response).count("a") >= 4)
    # A request a prefix: the prompt, its 3 continuations, and their 6.
    assert [params.n for _, params in made.llm.requests] == [3] + [2] * 9
    total = sum(response["extra_logs"]["generated_tokens"] for response in responses)
    assert total == pytest.approx(3 * 2 + 6 * 2 + 12 * 3)


def test_values_of_nodes_agree_with_the_known_ones_within_their_standard_error():
    _, responses = tree(branches=(12, 60), segment_tokens=3)
    roots = [r for r in responses if r["extra_logs"]["depth"] == 1]
    off = []
    for response in roots:
        known = success(text_of(response, len(PROMPT)))
        error = math.sqrt(known * (1 - known) / 60)
        off.append(abs(response["reward"] - known) / error if error else 1000 * abs(response["reward"] - known))
    assert len(off) > 6 and max(off) < 3


def test_a_text_that_ends_early_is_a_leaf():
    options = training_options(("tree_value",), tree_value={"branches": (4, 2), "segment_tokens": 3})

    def hasty(text):
        return {"<eos>": 0.5, "a": 0.5}

    responses = respond(actor(hasty, lambda text: float("a" in text), options), 8, max_tokens=6)
    ended = [r for r in responses if text_of(r, len(PROMPT)) == ""]
    assert ended and all(r["reward"] == 0 and r["extra_logs"]["depth"] == 1 for r in ended)


def test_a_tree_without_a_difference_has_no_edges():
    assert tree(worth=lambda _: 1.0)[1] == []


def test_a_tree_whose_leaf_has_no_reward_is_replaced_as_a_whole():
    def worth(text):
        if text.count("b") == 3:
            raise OSError("disk")
        return 0.0

    _, responses = tree(worth=worth)
    assert len(responses) == 1 and "no reward" in responses[0]["failed"]


def test_a_step_takes_the_oldest_edges_and_only_so_many_of_a_prompt():
    pool = EdgePool(per_prompt=2, max_age=2)
    pool.begin_step()
    pool.add(["a1", "a2", "a3", "a4", "a5"])
    assert pool.missing_prompts(4) == 1 and pool.missing_prompts(7) == 3
    pool.add(["b1"])
    assert pool.missing_prompts(3) == 0
    assert pool.take(2) == [("a1", 0), ("a2", 0)]
    pool.begin_step()
    pool.add(["c1", "c2"])
    assert pool.take(9) == [("a3", 1), ("a4", 1), ("b1", 1), ("c1", 0), ("c2", 0)]
    pool.begin_step()
    assert pool.take(9) == []  # a5 is two steps old


def test_a_step_samples_new_trees_and_more_of_them_until_there_are_enough_edges(monkeypatch):
    sent, upstream = [], samples_generator.SamplesGenerator
    edges_of = {0: 3, 1: 0, 2: 1, 3: 5, 4: 2, 5: 4}

    def dispatch(self, prompts, labels, *, images=None, **_):
        sent.append(list(prompts))
        return [[{"edge": (prompt, i)} for i in range(edges_of[prompt])] for prompt in prompts]

    monkeypatch.setattr(samples_generator.ray, "get", lambda references: references)
    monkeypatch.setattr(samples_generator.ray, "wait", lambda refs, **_: (refs[:1], refs[1:]))
    monkeypatch.setattr(upstream, "_dispatch_prompts_to_vllm", dispatch)
    monkeypatch.setattr(
        samples_generator, "experience_of", lambda response, max_len: SimpleNamespace(**response, info={})
    )
    call = SimpleNamespace(remote=lambda _: None)
    engine = SimpleNamespace(take_tokenizer=call, begin_evaluation=call)
    args = SimpleNamespace(rollout=SimpleNamespace(n_samples_per_prompt=2))
    options = training_options(("tree_value",), tree_value={"edges_per_step": 2})
    ours = samples_generator.Generator(SimpleNamespace(args=args), [], (), None, [engine], options=options)
    data = iter([(["math"], [number], [""], [None]) for number in range(6)])
    found = []
    for _ in range(4):
        edges, consumed, exhausted = ours._generate_vllm(data, 2, False)
        found.append(([edge.edge for edge in edges], [edge.info["age"].item() for edge in edges], consumed, exhausted))
    assert sent == [[0, 1], [2], [3], [4, 5]]
    assert found == [
        ([(0, 0), (0, 1), (2, 0), (3, 0)], [0, 0, 0, 0], 4, False),
        ([(0, 2), (3, 1), (3, 2), (4, 0)], [1, 1, 1, 0], 2, False),
        ([(3, 3), (3, 4), (4, 1), (5, 0)], [2, 2, 1, 1], 0, True),  # the data ended, and there are enough still
        ([], [], 0, True),
    ]


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ({"branches": (20, 20, 20)}, {}, "20 x 20 x 20 = 8000 texts for every prompt.*at most 4096"),
        ({"branches": (1, 1)}, {}, "1 x 1 = 1 texts for every prompt, expected positive factors, one of them above 1"),
        ({}, {}, "max_age: 8, so a step trains on edges that older weights sampled"),
        ({"max_age": 1}, {"algo__dynamic_filtering_enable": True}, "leaves out what teaches nothing"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, changes, said):
    term = TERM.load("tree_value")
    with pytest.raises(ValueError, match=said):
        term.check(term.Options(**options), arguments(**changes))


def test_generated_text_of_evaluation_is_no_tree():
    made, _ = tree()
    asyncio.run(made.begin_evaluation(True))
    assert len(respond(made, 3)) == 3
