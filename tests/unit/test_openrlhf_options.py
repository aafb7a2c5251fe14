"""OpenRLHF's command line, read from its installed source."""

import pytest

from openrlhf_ktae import openrlhf_options
from openrlhf_ktae.openrlhf_options import OptionError, check, known_options, to_argv

SMALL = {
    "algo.advantage.estimator": "group_norm",
    "rollout.n_samples_per_prompt": 8,
    "vllm.num_engines": 1,
    "reward.remote_url": "reward.py",
}


def test_the_real_parser_is_read():
    assert len(known_options()) > 150
    assert known_options()["actor.adam.lr"].default == 1e-6


def test_values_flags_lists_and_defaults_become_arguments():
    settings = {
        "actor.adam.lr": 2e-4,
        "ds.packing_samples": True,
        "vllm.enforce_eager": False,
        "actor.eps_clip_low_high": [0.2, 0.28],
        "actor.dual_clip": None,
    }
    assert to_argv(settings) == [
        "--actor.adam.lr", "0.0002", "--ds.packing_samples", "--actor.eps_clip_low_high", "0.2", "0.28",
    ]  # fmt: skip


def test_options_come_back_as_openrlhf_reads_them():
    args = check(to_argv(SMALL | {"actor.eps_clip": 0.1}))
    assert args.rollout.n_samples_per_prompt == 8
    assert args.actor.eps_clip_low_high == (0.1, 0.1)  # OpenRLHF's own adjustment
    assert args.reward.remote_url == ["reward.py"]


def test_an_unknown_option_names_the_nearest_known_one():
    with pytest.raises(OptionError, match=r"actor\.lr: unknown option; did you mean .*actor\.adam\.lr"):
        to_argv({"actor.lr": 1e-6})
    with pytest.raises(OptionError, match=r"did you mean rollout\.n_samples_per_prompt\?"):
        to_argv({"rollout.n_sample_per_prompt": 8})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ds.packing_samples": "yes"}, "expected true or false"),
        ({"actor.adam.lr": True}, "expected a value"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        to_argv(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algo.advantage.estimator": "grpo"}, "invalid choice"),
        ({"actor.adam.lr": "fast"}, "invalid float"),
        ({"rollout.n_samples_per_prompt": 1}, "requires n_samples_per_prompt > 1"),
        ({"train.partial_rollout_enable": True}, "requires --train.async_enable"),
        ({"vllm.num_engines": None, "ds.packing_samples": True}, "cannot use these options"),
    ],
)
def test_what_openrlhf_refuses_is_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        check(to_argv(SMALL | changes))


def test_a_missing_openrlhf_names_the_way_out(monkeypatch):
    monkeypatch.setattr(openrlhf_options, "_MODULE", "openrlhf.cli.no_such_module")
    openrlhf_options._source_parts.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"scripts/setup\.sh"):
        openrlhf_options._source_parts()
    openrlhf_options._source_parts.cache_clear()
