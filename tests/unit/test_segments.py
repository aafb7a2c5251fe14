"""Credit from branches and turns: the terms against slow references, invariances, and what is refused."""

import random

import branch_references as reference
import pytest
import torch
from openrlhf_parts import arguments
from segment_batches import GIVEN, LENGTH, applied, assert_segments_have, batch, bounds_of

from openrlhf_ktae.advantage.segments import Trace, group_means, normalised, segments_of
from openrlhf_ktae.advantage.term import TERM, apply_terms
from openrlhf_ktae.advantage.terms.segment_value import value_changes
from openrlhf_ktae.plugins import loaded


def test_segments_are_where_the_sampler_says():
    segments = segments_of([Trace(((1, 3), (5, 6)), values=(None, 0.5), branch=2), Trace(((2, 4),))], 6)
    assert segments.number.tolist() == [[0, 0, -1, -1, 1, -1], [-1, 0, 0, -1, -1, -1]]
    assert segments.count.tolist() == [2, 1] and segments.branch.tolist() == [2, 0]
    assert segments.values[0, 1] == 0.5 and segments.values.isnan().sum() == 3
    assert segments.of_tokens(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))[0].tolist() == [1, 1, 0, 0, 2, 0]


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (Trace(((2, 5), (4, 6))), "segment 1 takes tokens 4 to 6, expected a start of at least 5"),
        (Trace(((2, 5),), rewards=(1.0, 2.0)), "2 rewards for 1 segments"),
        (Trace(((2, 5),), values=(None, 2.0)), "2 values for 1 segments"),
    ],
)
def test_segments_that_cannot_be_are_refused(trace, said):
    with pytest.raises(ValueError, match=said):
        segments_of([trace], 8)


def test_equal_numbers_have_exactly_their_mean():
    numbers, group = torch.full((30,), 0.9, dtype=torch.float64), torch.arange(30) // 10
    assert torch.equal(group_means(numbers, group), numbers)
    assert normalised(numbers, group, 1e-9).abs().max() == 0


def answers(seed: int, thoughts: int, per_thought: int, prompts: int = 3):
    """Rollouts of GRPO-MA and their rewards by prompt and thought; some thoughts have no answer."""
    rng = random.Random(seed)
    traces, rewards, group, by_prompt = [], [], [], []
    for prompt in range(prompts):
        by_thought = []
        for thought in range(thoughts):
            of_thought, is_answered = rng.randint(1, 8), rng.random() < 0.8
            same = rng.random()
            by_thought.append([rng.random() if is_answered else same for _ in range(per_thought)])
            for _ in range(per_thought):
                lengths = [of_thought, rng.randint(1, 8)] if is_answered else [of_thought]
                traces.append(Trace(bounds_of(lengths), branch=thought))
                group.append(prompt)
            rewards += by_thought[-1]
        by_prompt.append([[torch.tensor(r).item() for r in rewards] for rewards in by_thought])
    return batch(traces, rewards, group), by_prompt


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_thought", [1, 3])
def test_multi_answer_equals_its_reference(seed, per_thought):
    of, by_prompt = answers(seed, 4, per_thought)
    found = applied("multi_answer", of, answers=per_thought).advantages
    pairs = [
        [thought, answer]
        for rewards in by_prompt
        for thought, of_thought in reference.multi_answer(rewards)
        for answer in of_thought
    ]
    counts = of.segments.count.tolist()  # pyright: ignore[reportOptionalMemberAccess]
    assert_segments_have(found, of, [pair[:count] for pair, count in zip(pairs, counts, strict=True)])


def test_one_answer_a_thought_is_grpo():
    of, by_prompt = answers(0, 6, 1)
    found = applied("multi_answer", of, answers=1).advantages
    rewards = torch.tensor(by_prompt).view(3, 6)
    expected = (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + 1e-9)
    expected = expected.view(-1, 1).expand_as(of.mask)
    torch.testing.assert_close(found[of.mask], expected[of.mask], atol=1e-5, rtol=0)


def test_key_token_values_are_added_to_thoughts_and_answers_alike():
    """A thought's tokens count in every rollout that repeats it: with the share of its answers that are right."""
    traces = [Trace(bounds_of([2, 1]), branch=thought) for thought in (0, 0, 1, 1)]
    token_ids = torch.zeros(4, LENGTH, dtype=torch.int32)
    token_ids[:, GIVEN - 1 : GIVEN + 2] = torch.tensor([[10, 11, 1], [10, 11, 2], [10, 12, 1], [10, 12, 2]])
    of = batch(traces, [1, 0, 1, 0], [0] * 4, token_ids=token_ids, scores=torch.tensor([1.0, 0, 1, 0]))
    terms = loaded(TERM, ["multi_answer", "ktae"], {"multi_answer": {"answers": 2}, "ktae": {}})
    outcome = apply_terms(terms, of, torch.zeros(of.mask.shape))
    alone, values = applied("multi_answer", of, answers=2).advantages, outcome.columns["key_token_value"]
    torch.testing.assert_close(outcome.advantages[of.mask], (alone + values)[of.mask])
    thought, answer = values[:, GIVEN - 1 : GIVEN + 1], values[:, GIVEN + 1]
    assert thought.abs().max() < 1e-6  # as often right as wrong
    assert answer[0] > 0.1 and answer[1] < -0.1


def turns(seed: int, longest: int, prompts: int = 3, samples: int = 5):
    rng = random.Random(seed)
    traces, outcomes, rewards = [], [], []
    for _ in range(prompts * samples):
        earned = [torch.tensor(rng.random()).item() for _ in range(rng.randint(1, longest))]
        traces.append(Trace(bounds_of([rng.randint(1, 3) for _ in earned], gaps=1), rewards=tuple(earned)))
        outcomes.append(torch.tensor(rng.choice([0.0, 1.0, rng.random()])).item())
        rewards.append(earned)
    group = [row // samples for row in range(len(traces))]
    rows = [range(start, start + samples) for start in range(0, len(traces), samples)]
    by_prompt = [([outcomes[i] for i in some], [rewards[i] for i in some]) for some in rows]
    return batch(traces, outcomes, group), by_prompt


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("gamma", "weight"), [(1.0, 1.0), (0.7, 0.5), (0.0, 2.0)])
def test_turn_level_equals_its_reference(seed, gamma, weight):
    of, by_prompt = turns(seed, longest=4)
    found = applied("turn_level", of, gamma=gamma, weight=weight).advantages
    expected = [row for prompt in by_prompt for row in reference.turn_level(*prompt, gamma, weight)]
    assert_segments_have(found, of, expected)


@pytest.mark.parametrize("seed", range(3))
def test_with_the_outcome_in_the_last_turn_the_returns_are_all_there_is(seed):
    of, by_prompt = turns(seed, longest=4)
    found = applied("turn_level", of, gamma=0.9, outcome="last_turn").advantages
    joined = [[[*r[:-1], r[-1] + o] for o, r in zip(*prompt, strict=True)] for prompt in by_prompt]
    expected = [row for rewards in joined for row in reference.turn_level(None, rewards, 0.9, 1.0)]
    assert_segments_have(found, of, expected)


def test_one_turn_without_discount_is_the_outcome_advantage():
    of, _ = turns(1, longest=1)
    of.segments.rewards.zero_()  # pyright: ignore[reportOptionalMemberAccess]
    outcome = normalised(of.rewards.double(), of.group, 1e-4).float().unsqueeze(1).expand_as(of.mask)
    for where in ("apart", "last_turn"):
        found = applied("turn_level", of, gamma=1.0, outcome=where).advantages
        torch.testing.assert_close(found[of.mask], outcome[of.mask])


def test_key_token_values_count_generated_tokens_only():
    """Tool text between the turns is a token of right rollouts only, and has no value and no advantage."""
    traces = [Trace(bounds_of([2, 2], gaps=2), rewards=(0.0, 0.0)) for _ in range(4)]
    token_ids = torch.full((4, LENGTH), 5, dtype=torch.int32)
    first, tool = GIVEN - 1, slice(GIVEN + 1, GIVEN + 3)
    token_ids[:2, tool] = 9
    token_ids[:2, first] = 6
    of = batch(traces, [1, 1, 0, 0], [0] * 4, token_ids=token_ids, scores=torch.tensor([1.0, 1, 0, 0]))
    terms = loaded(TERM, ["turn_level", "ktae"], {"turn_level": {}, "ktae": {}})
    values = apply_terms(terms, of, torch.zeros(of.mask.shape)).columns["key_token_value"]
    assert (values[:2, first] > 0.1).all() and values[:, tool].abs().max() == 0


def chains(seed: int, prompts: int = 3, samples: int = 4):
    rng = random.Random(seed)
    traces, rewards, cuts = [], [], []
    for _ in range(prompts * samples):
        values = [rng.random() for _ in range(rng.randint(0, 4))]
        traces.append(Trace(bounds_of([rng.randint(1, 4) for _ in range(len(values) + 1)]), values=(None, *values)))
        rewards.append(float(rng.random() < 0.5))
        cuts.append(values)
    group = [row // samples for row in range(len(traces))]
    log_probs = torch.rand(len(traces), LENGTH, generator=torch.Generator().manual_seed(seed)).log()
    expected = []
    for row, values in enumerate(cuts):
        some = rewards[group[row] * samples :][:samples]
        expected.append(reference.chain(values, rewards[row], reference.mean(some)))
    return batch(traces, rewards, group, log_probs=log_probs), expected


@pytest.mark.parametrize("seed", range(5))
def test_segment_values_equal_their_reference(seed):
    of, expected = chains(seed)
    assert_segments_have(applied("segment_value", of, threshold=1.0).advantages, of, expected)
    found = applied("segment_value", of, threshold=0.6)
    is_certain = of.log_probs.exp() >= 0.6
    assert found.advantages[of.mask & is_certain].abs().max() == 0
    whole = applied("segment_value", of, threshold=1.0).advantages
    assert torch.equal(found.advantages[~is_certain & of.mask], whole[~is_certain & of.mask])


def test_a_rollout_without_cuts_has_its_reward_less_the_mean():
    of = batch([Trace(bounds_of([3])), Trace(bounds_of([2]))], [1.0, 0.0], [0, 0])
    found = applied("segment_value", of, threshold=1.0).advantages
    assert found[of.mask].tolist() == [0.5, 0.5, 0.5, -0.5, -0.5]


def test_the_advantages_of_a_chain_add_up_to_the_reward_less_the_value_of_the_prompt():
    of, _ = chains(3)
    segments = of.segments
    before = torch.where(segments.values.isnan(), 0.25, segments.values)  # pyright: ignore
    changes = value_changes(before, of.rewards.double(), segments.count)  # pyright: ignore
    torch.testing.assert_close(changes.sum(1), of.rewards.double() - 0.25)


def test_a_cut_without_a_value_is_refused():
    of = batch([Trace(bounds_of([3, 2])), Trace(bounds_of([2]))], [1.0, 0.0], [0, 0])
    with pytest.raises(ValueError, match="rollout 0: no value before segment 1"):
        applied("segment_value", of)


@pytest.mark.parametrize("seed", range(5))
def test_functional_groups_equal_their_reference(seed):
    rng = random.Random(seed)
    rewards = [torch.tensor(rng.random()).item() for _ in range(18)]
    agents = [float(rng.randrange(3)) for _ in rewards]
    of = batch(
        [Trace(bounds_of([2]))] * 18, rewards, [row // 6 for row in range(18)], info={"group_id": torch.tensor(agents)}
    )
    found = applied("functional_group", of)
    expected = [x for s in range(0, 18, 6) for x in reference.functional_group(rewards[s : s + 6], agents[s : s + 6])]
    assert_segments_have(found.advantages, of, [[x] for x in expected])
    assert found.metrics["functional_group/reward_mean_0"] == pytest.approx(
        reference.mean([r for r, agent in zip(rewards, agents, strict=True) if agent == 0])
    )


def test_rollouts_that_do_not_say_their_functional_group_are_refused():
    of = batch([Trace(bounds_of([2]))], [1.0], [0], info={"formatted": torch.tensor([1.0])})
    with pytest.raises(ValueError, match=r"functional_group\.key: no rollout says 'role' \(they say formatted\)"):
        applied("functional_group", of, key="role")


@pytest.mark.parametrize(
    ("name", "options", "changes", "said"),
    [
        ("multi_answer", {"answers": 3}, {}, r"3 answers to every thought and rollout\.n_samples_per_prompt of 4"),
        ("multi_answer", {"answers": 4}, {}, "expected a multiple with at least 2 thoughts, such as 16"),
        ("segment_value", {"max_cuts": 1000}, {}, "1000 x 9 = 9000 texts beside every rollout, at most 4096"),
        ("segment_value", {}, {"rollout__temperature": 0.7}, "0.7 and 1; segment_value cuts by the probabilities"),
        (
            "segment_value",
            {},
            {"reward__overlong_buffer_len": 4},
            "overlong_buffer_len: 4, a penalty that the values of",
        ),
        *(
            (name, {}, {"algo__kl__use_loss": False, "algo__kl__init_coef": 0.1}, f"advantages that {name} replaces")
            for name in ("turn_level", "functional_group")
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, changes, said):
    term = TERM.load(name)
    with pytest.raises(ValueError, match=said):
        term.check(term.Options(**options), arguments(**changes))


def test_the_examples_of_the_document():
    pairs = [Trace(bounds_of([1, 1]), branch=thought) for thought in (0, 0, 1, 1)]
    of = batch(pairs, [1, 1, 1, 0], [0] * 4)
    assert_segments_have(
        applied("multi_answer", of, answers=2).advantages,
        of,
        [[0.5**0.5, 0.5], [0.5**0.5, 0.5], [-(0.5**0.5), 0.5], [-(0.5**0.5), -1.5]],
    )
    of = batch([Trace(bounds_of([1, 1, 1]), values=(0.5, 0.4, 0.9))] * 2, [1, 1], [0, 0])
    assert_segments_have(applied("segment_value", of, threshold=1).advantages, of, [[-0.1, 0.5, 0.1]] * 2)
    of = batch([Trace(bounds_of([1, 1]), rewards=(1, second)) for second in (1, 0)], [1, 0], [0, 0])
    for gamma, first in ((0.5, 1.41), (0.0, 0.71)):
        found = applied("turn_level", of, gamma=gamma).advantages
        torch.testing.assert_close(
            found[:, GIVEN - 1 : GIVEN + 1], torch.tensor([[first, 1.41], [-first, -1.41]]), atol=0.006, rtol=0
        )
    agents = {"group_id": torch.tensor([0.0, 0, 1, 1])}
    of = batch([Trace(bounds_of([1]))] * 4, [1, 0, 1, 1], [0] * 4, info=agents)
    assert_segments_have(applied("functional_group", of).advantages, of, [[0.5], [-0.5], [0], [0]])
