"""OpenRLHF's own objects for tests, made without Ray actors: arguments, experiences, experience makers."""

from types import SimpleNamespace

import torch

from openrlhf_ktae.training import cpu

cpu.install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402

from openrlhf_ktae.config import RunOptions  # noqa: E402
from openrlhf_ktae.openrlhf_options import check, to_argv  # noqa: E402
from openrlhf_ktae.training.experience_maker import ExperienceMaker  # noqa: E402
from openrlhf_ktae.training.options import TrainingOptions  # noqa: E402

SAMPLES = 4


def arguments(**changes) -> SimpleNamespace:
    """OpenRLHF's options as its code reads them; ``a__b=1`` sets a.b."""
    settings = {
        "algo.advantage.estimator": "group_norm",
        "rollout.n_samples_per_prompt": SAMPLES,
        "vllm.num_engines": 1,
        "reward.remote_url": "reward.py",
        "algo.kl.use_loss": True,
        "algo.kl.estimator": "k3",
    }
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    return check(to_argv(settings))


def experiences(prompts: int, rows_per_experience: int, seed: int = 0, shuffle: bool = False) -> list[Experience]:
    """Scored rollouts of ``prompts`` prompts, split into experiences of different paddings.

    With ``shuffle`` the rows of a group are spread over several experiences, as with dynamic batches.
    """
    generator = torch.Generator().manual_seed(seed)
    total = prompts * SAMPLES
    order = torch.randperm(total, generator=generator).tolist() if shuffle else list(range(total))
    rows = {index: _row(index, generator) for index in range(total)}
    result = []
    for start in range(0, total, rows_per_experience):
        chosen = [rows[index] for index in order[start : start + rows_per_experience]]
        result.append(Experience.concat_experiences(chosen, pad_token_id=0))
    for experience in result:
        experience.kl = torch.zeros_like(experience.action_mask, dtype=torch.float32)
        experience.action_log_probs = torch.zeros_like(experience.kl)
    return result


def _row(index: int, generator: torch.Generator) -> Experience:
    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    prompt, response = number(2, 5), number(1, 9)
    length = prompt + response
    action_mask = torch.zeros(1, length - 1, dtype=torch.long)
    action_mask[:, prompt - 1 :] = 1
    score = torch.tensor([float(number(0, 2))])
    return Experience(
        sequences=torch.randint(3, 12, (1, length), generator=generator),
        attention_mask=torch.ones(1, length, dtype=torch.long),
        action_mask=action_mask,
        rewards=score.clone(),
        scores=score,
        response_length=torch.tensor([response]),
        truncated=torch.tensor([False]),
        total_length=torch.tensor([float(length)]),
        index=[index],
        prompts=[f"prompt {index // SAMPLES}"],
        labels=["1"],
        info={"reward": score.clone()},
    )


def plain_maker(args: SimpleNamespace) -> RemoteExperienceMaker:
    """OpenRLHF's experience maker, without actors behind it."""
    return RemoteExperienceMaker(None, None, None, None, _kl(), SimpleNamespace(args=args), None)


def maker(args: SimpleNamespace, terms: tuple[str, ...] = ("ktae",), **sections) -> ExperienceMaker:
    """Ours, on the same footing; ``ktae={"scale": 0.5}`` are options of a section."""
    return ExperienceMaker(
        None, None, None, None, _kl(), SimpleNamespace(args=args), None, options=training_options(terms, **sections)
    )


def training_options(terms: tuple[str, ...] = (), policy_loss: str = "openrlhf", **sections) -> TrainingOptions:
    """What a run's actors get."""
    methods = {"advantage": {"terms": list(terms)}, "policy_loss": {"name": policy_loss}, "task": {"name": "math"}}
    return TrainingOptions("", RunOptions(), methods | sections)


def _kl() -> SimpleNamespace:
    return SimpleNamespace(value=0.0)
