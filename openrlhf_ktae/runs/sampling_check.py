"""Ways of sampling that cannot work with the rest of a run are refused before any actor starts."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from openrlhf_ktae.advantage.term import TERM
from openrlhf_ktae.hub import model_file
from openrlhf_ktae.plugins import section_of
from openrlhf_ktae.recipe import RunConfig

ANSWER_MARKS = {"hash": ("#",), "tags": ("<answer>",), "boxed": (), "auto": ("#", "<answer>")}
"""Texts that a response holds before its answer because the grader looks for them there (``grader.answer_style``)."""


def check_sampling(config: RunConfig, args: SimpleNamespace) -> None:
    """Refuses what a way of sampling cannot work with. ``args``: OpenRLHF's options.

    Raises:
        ValueError: naming the option, what was found and the way out.
    """
    sampling, name = config.sampling()
    if not sampling:
        return
    if config.run.deterministic_sampling:
        raise ValueError(
            f"run.deterministic_sampling: not with {name}, whose later requests depend on the texts of the first ones; "
            "set one of them only"
        )
    if args.train.agent_func_path:
        if sampling == "turns" and not config.make_task().sampling:
            return  # the agent says what its turns earned: `turn_rewards`
        raise ValueError(
            f"train.agent_func_path: {args.train.agent_func_path} samples by itself, and so does {name}; set one of "
            "them"
        )
    if sampling == "turns" and not config.make_task().sampling:
        raise ValueError(
            f"task.name: {config.task} has no environment, so a rollout is one turn; {name} needs a task with one "
            "(calculator), or train.agent_func_path with an agent that returns turn_rewards"
        )
    counting = [section_of(term) for term in config.terms if "scores" in TERM.load(term).needs]
    if sampling == "tree" and counting:
        raise ValueError(
            f"advantage.terms: {counting[0]} counts right and wrong rollouts, and an edge of {name}'s trees is "
            "neither; take one of them out"
        )
    team, samples = config.make_task().team, args.rollout.n_samples_per_prompt
    if team is not None and samples % len(team.roles):
        raise ValueError(
            f"rollout.n_samples_per_prompt: got {samples}, expected a multiple of {len(team.roles)}: an episode of "
            f"{name} is a rollout of each of {', '.join(team.roles)}"
        )
    if not args.reward.remote_url:
        raise ValueError(
            f"reward.remote_url: not set, and a reward model sees rollouts when all are sampled; {name} needs rewards "
            "while it samples: name a file with a reward_func, or a server"
        )


def check_end_tag(config: RunConfig, args: SimpleNamespace, row: Mapping[str, Any] | None) -> None:
    """Refuses a thought without an end. ``row``: the first one of the training prompts.

    Raises:
        ValueError: nothing makes the model write the end tag.
    """
    if config.sampling()[0] != "answers":
        return
    prompt = str((row or {}).get(args.data.input_key, ""))
    end = config.sections["multi_answer"].end  # pyright: ignore[reportAttributeAccessIssue]
    style = config.grader.answer_style
    if end in prompt or end in ANSWER_MARKS[style] or end in _added_tokens(args.actor.model_name_or_path):
        return
    raise ValueError(
        f"multi_answer.end: {end!r} is neither in the prompts (data.prompt_dataset), nor where "
        f"grader.answer_style={style} looks for an answer, nor a token that the model's tokenizer adds, so no "
        "thought would ever end; name the text that ends one, or train on prompts whose template asks for it "
        "(openrlhf-ktae data --template r1)"
    )


def _added_tokens(model: str) -> set[str]:
    found = model_file(model, "tokenizer.json")
    added = json.loads(found.read_text(encoding="utf-8")).get("added_tokens", []) if found else []
    return {token["content"] for token in added}
