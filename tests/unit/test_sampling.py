"""Ways of sampling against a toy policy behind OpenRLHF's real executor: trees, values of prefixes, turns."""

import asyncio
import math
from types import SimpleNamespace

import pytest
import torch
from openrlhf_parts import training_options
from toy_policy import ENOUGH, PROMPT, actor, gambler, respond, success, text_of

from openrlhf_ktae.advantage.terms.segment_value import SegmentValueOptions
from openrlhf_ktae.training import rollout_actor, samples_generator
from openrlhf_ktae.training.rollout_batch import traces_of
from openrlhf_ktae.training.sampling.chain import cut_points


def thinker(text: str) -> dict[str, float]:
    """A thought of a's and b's that ends with # or with the text, then one digit."""
    if "#" in text:
        return {"<eos>": 1.0} if text[-1] != "#" else {"7": 0.5, "8": 0.5}
    return {"a": 0.4, "b": 0.3, "#": 0.2, "<eos>": 0.1}


def answers_actor(answers=3):
    options = training_options(("multi_answer",), multi_answer={"answers": answers, "end": "#"})
    return actor(thinker, lambda text: float(text.endswith("8")), options)


def test_every_thought_has_its_answers_and_stands_in_each_of_their_rollouts():
    made = answers_actor()
    responses = respond(made, 12, logprobs=1)
    assert [response["trace"].branch for response in responses] == [b for b in range(4) for _ in range(3)]
    for response in responses:
        start, end = response["trace"].bounds[0]
        siblings = [other for other in responses if other["trace"].branch == response["trace"].branch]
        assert {text_of(other, start, other["trace"].bounds[0][1]) for other in siblings} == {
            text_of(response, start, end)
        }
        assert start == len(PROMPT) and response["trace"].bounds[-1][1] == len(response["observation_tokens"])
        assert len(response["rollout_log_probs"]) == len(response["observation_tokens"])
        if len(response["trace"].bounds) == 2:
            assert text_of(response, start, end).endswith("#") and text_of(response, end) in "78"
            assert response["reward"] == (text_of(response, end) == "8")
        else:
            assert "#" not in text_of(response, start)
    answered = [response for response in responses if len(response["trace"].bounds) == 2]
    assert answered
    # A request a thought, and one for all of its answers, from the thought's very tokens.
    prefixes = [(before, params.n) for before, params in made.llm.requests if before != PROMPT]
    assert len(prefixes) == len(answered) / 3 and {n for _, n in prefixes} == {3}


def test_what_was_generated_is_counted_once_however_many_rollouts_repeat_it():
    responses = respond(answers_actor(), 12)
    total = sum(response["extra_logs"]["generated_tokens"] for response in responses)
    once = {(r["trace"].branch, text_of(r, *r["trace"].bounds[0])): r["trace"].bounds for r in responses}
    thoughts = sum(bounds[0][1] - bounds[0][0] for bounds in once.values())
    answers = sum(r["trace"].bounds[1][1] - r["trace"].bounds[1][0] for r in responses if len(r["trace"].bounds) == 2)
    assert total == pytest.approx(thoughts + answers)


def test_a_thought_at_the_length_limit_has_no_answer():
    def endless(text):
        return {"#": 1.0} if len(text) == len(PROMPT) + 3 else {"a": 1.0}

    options = training_options(("multi_answer",), multi_answer={"answers": 2, "end": "#"})
    for limit, lengths in ((4, [4]), (5, [4, 1]), (3, [3])):
        for response in respond(actor(endless, lambda _: 0.0, options), 4, max_tokens=limit):
            assert [end - start for start, end in response["trace"].bounds] == lengths
            assert response["truncated"]


def chain_responses(samples=4, **options):
    options = training_options(("segment_value",), segment_value={"threshold": 0.9, "cut_every": 2} | options)
    return respond(actor(gambler, lambda text: float(text.count("a") >= ENOUGH), options), samples)


def test_values_of_prefixes_agree_with_the_known_ones_within_their_standard_error():
    count, off = 100, []
    for response in chain_responses(continuations=count):
        assert response["trace"].values[0] is None
        for (start, _), value in list(zip(response["trace"].bounds, response["trace"].values, strict=True))[1:]:
            known = success(text_of(response, len(PROMPT), start))
            error = math.sqrt(known * (1 - known) / count)
            off.append(abs(value - known) / error if error else 100 * abs(value - known))
    assert len(off) == 12 and max(off) < 3 and sum(off) / len(off) < 1.2


def test_a_rollout_is_cut_behind_every_second_uncertain_token():
    for response in chain_responses(continuations=2):
        assert [end - start for start, end in response["trace"].bounds] == [
            2,
            2,
            2,
            1,
        ]  # the end of the sequence is a token
        # Nobody asked for log-probabilities, so none are handed over.
        assert response["rollout_log_probs"] is None and response["action_ranges"] == [(4, 11)]


@pytest.mark.parametrize(
    ("probabilities", "options", "expected"),
    [
        ([0.5, 0.95, 0.5, 0.5, 0.5, 1.0], {"cut_every": 2}, [3, 5]),
        ([0.5, 0.95, 0.5, 0.5], {"cut_every": 3}, []),  # the last token ends the rollout
        ([0.5] * 6, {"cut_every": 1, "max_cuts": 2}, [1, 2]),
        ([0.95] * 6, {"cut_every": 1}, []),
        ([1.0, 1.0, 1.0], {"cut_every": 1, "threshold": 1.0}, [1, 2]),
    ],
)
def test_cut_points(probabilities, options, expected):
    assert cut_points([math.log(p) for p in probabilities], SegmentValueOptions(**options)) == expected


def test_a_prompt_whose_continuation_has_no_reward_is_replaced():
    def rewards(text):
        if text.count("b") == 3:
            raise OSError("disk")
        return 0.0

    options = training_options(("segment_value",), segment_value={"cut_every": 1, "continuations": 20})
    responses = respond(actor(gambler, rewards, options), 4)
    assert all("no reward" in response["failed"] for response in responses)


def caller(text: str) -> dict[str, float]:
    """Solves 7+1+1= with the calculator; its second call is right half of the time."""
    written = text[text.index("=") + 1 :]
    plans = ["[7+1]8;[8+1]9;#9", "[7+1]8;[8+2]0;#0"]
    following = [plan[len(written)] for plan in plans if plan.startswith(written) and len(plan) > len(written)]
    return {token: 1 / len(set(following)) for token in following} if following else {"<eos>": 1.0}


def calculator_actor(next_token=caller):
    options = training_options((), task={"name": "calculator"})
    return actor(next_token, lambda text: float(text.endswith("9")), options)


@pytest.mark.parametrize("evaluates", [False, True])
def test_an_episode_is_turns_of_the_policy_with_the_tools_text_between_them(evaluates):
    made = calculator_actor()
    made._evaluates = evaluates
    responses = respond(made, 8, prompt="7+1+1=", logprobs=1)
    found = set()
    for response in responses:
        texts = [text_of(response, *bounds) for bounds in response["action_ranges"]]
        found.add((*texts, *response["trace"].rewards, response["reward"]))
        tool = set(range(6, len(response["observation_tokens"])))
        tool -= {i for start, end in response["action_ranges"] for i in range(start, end)}
        assert len(tool) == 4 and all(response["rollout_log_probs"][i] == 0 for i in tool)
        assert tuple(response["action_ranges"]) == response["trace"].bounds
    assert found == {("[7+1]", "[8+1]", "#9", 1, 1, 0, 1), ("[7+1]", "[8+2]", "#0", 1, 0, 0, 0)}


def test_an_episode_ends_after_too_many_calls_or_where_there_is_no_room():
    made = calculator_actor(lambda text: {"[x]"[len(text[text.index("=") + 1 :].replace("?;", "")) % 3]: 1.0})
    (response,) = respond(made, 1, prompt="7+1+1=", max_tokens=50)
    assert text_of(response, 6) == "[x]?;[x]?;[x]?;[x]" and not response["truncated"]
    (response,) = respond(made, 1, prompt="7+1+1=", max_tokens=7)
    assert text_of(response, 6) == "[x]?;[x" and response["truncated"]
    (response,) = respond(made, 1, prompt="7+1+1=", max_tokens=5)
    assert text_of(response, 6) == "[x]" and len(response["action_ranges"]) == 1 and response["truncated"]


def test_evaluation_samples_each_response_by_itself_where_training_branches():
    made = answers_actor()
    asyncio.run(made.begin_evaluation(True))
    assert not any("trace" in response for response in respond(made, 4))


def test_a_prompt_that_does_not_fit_is_refused_before_its_tree_is_sampled():
    responses = respond(answers_actor(), 6, prompt="1+" * 30 + "1=", max_tokens=32)
    assert "a prompt of 62 tokens; data.max_len leaves room for 32" in responses[0]["failed"]
    assert not any("trace" in response for response in responses)


def test_an_agent_that_returns_what_its_turns_earned_has_turns():
    response = {"action_ranges": [(2, 4), (6, 9)], "turn_rewards": [0.5, torch.tensor(1.0)]}
    trace = rollout_actor._with_trace(response)["trace"]
    assert trace.bounds == ((2, 4), (6, 9)) and trace.rewards == (0.5, 1.0)


def test_rollouts_without_segments_are_refused_where_a_term_reads_them():
    rollouts = [SimpleNamespace(trace=None), SimpleNamespace()]
    assert traces_of(rollouts, is_needed=False) is None  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="2 of 2 rollouts do not say their segments; let the agent return `turn_rew"):
        traces_of(rollouts, is_needed=True)  # pyright: ignore[reportArgumentType]


def test_engines_are_told_what_the_prompts_are_for(monkeypatch):
    told = []
    monkeypatch.setattr(samples_generator.ray, "get", lambda references: references)
    monkeypatch.setattr(samples_generator.SamplesGenerator, "_dispatch_prompts_to_vllm", lambda *_, **__: [])
    engine = SimpleNamespace(
        take_tokenizer=SimpleNamespace(remote=lambda _: None), begin_evaluation=SimpleNamespace(remote=told.append)
    )
    options = training_options(("segment_value",))
    ours = samples_generator.Generator(SimpleNamespace(args=SimpleNamespace()), [], (), None, [engine], options=options)
    ours._generate_vllm(iter([(["math"], ["p"], ["1"], [None])]), 1, False)
    assert told == [False]


def solver_and_checker(text: str) -> dict[str, float]:
    """Both answer at once; the checker believes whatever it is shown."""
    written = text.rpartition("?" if "?" in text else "=")[2]
    if written.startswith("#"):
        return {"<eos>": 1.0} if len(written) > 1 else {"1": 1.0} if "?" in text else {"8": 0.5, "9": 0.5}
    return {"#": 1.0}


def test_a_team_goes_through_its_roles_each_with_a_prompt_and_a_functional_group():
    options = training_options(("functional_group",), task={"name": "checked_arithmetic"})
    made = actor(solver_and_checker, lambda _: 0.0, options)

    def verify(queries, prompts, labels):
        score = torch.tensor([float(queries[0].replace("<eos>", "").endswith(f"#{labels[0]}"))])
        return {"rewards": score, "scores": score, "extra_logs": {}}

    made.executor.reward_func = verify
    responses = respond(made, 8)
    solvers, checkers = responses[:4], responses[4:]
    assert [response["extra_logs"]["group_id"] for response in responses] == [0] * 4 + [1] * 4
    found = {
        (text_of(solver), text_of(checker), checker["label"], solver["reward"], checker["reward"])
        for solver, checker in zip(solvers, checkers, strict=True)
    }
    assert found == {("7+1=#8", "7+1=8?#1", "1", 1.0, 1.0), ("7+1=#9", "7+1=9?#1", "0", 0.0, 0.0)}
    assert all(response["prompt"] == text_of(response, 0, response["action_ranges"][0][0]) for response in responses)
    assert sum(response["extra_logs"]["generated_tokens"] for response in responses) == 8 * 3


def test_an_agent_whose_prompt_leaves_no_room_ends_the_run_with_a_sentence():
    options = training_options(("functional_group",), task={"name": "checked_arithmetic"})
    with pytest.raises(ValueError, match=r"data\.max_len: 64 leaves no room .* the checker \(6 tokens\)"):
        respond(actor(solver_and_checker, lambda _: 0.0, options), 2, max_tokens=60)
