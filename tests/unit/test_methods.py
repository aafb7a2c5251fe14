"""The methods beside KTAE against slow references, hand-worked examples, and what does not go together."""

import method_references as reference
import pytest
import torch
from openrlhf_parts import arguments

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.term import TERM, apply_terms
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.plugins import loaded
from openrlhf_ktae.runs.preflight import PreflightError, check_methods

GROUPS, SAMPLES, LENGTH = 5, 6, 9


def random_batch(seed: int) -> RolloutBatch:
    generator = torch.Generator().manual_seed(seed)
    shape = (GROUPS * SAMPLES, LENGTH)
    lengths = torch.randint(1, LENGTH + 1, (shape[0], 1), generator=generator)
    mask = (torch.arange(LENGTH) < lengths) & (torch.rand(shape, generator=generator) > 0.1)
    return RolloutBatch(
        token_ids=torch.randint(5, 12, shape, generator=generator, dtype=torch.int32),
        mask=mask,
        group=torch.arange(shape[0]) // SAMPLES,
        rewards=torch.rand(shape[0], generator=generator),
        log_probs=-torch.rand(shape, generator=generator) * 4,
        entropies=torch.rand(shape, generator=generator) * 3,
    )


def applied(name: str, batch: RolloutBatch, advantages: torch.Tensor, **options) -> torch.Tensor:
    return apply_terms(loaded(TERM, [name], {name: options}), batch, advantages).advantages


def assert_equal_under_the_mask(found: torch.Tensor, expected, mask: torch.Tensor) -> None:
    difference = (found.double() - torch.tensor(expected, dtype=torch.float64)).abs()[mask]
    assert difference.max() <= 1e-6


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("token_probability", {"alpha": 0.3}, lambda a, b: reference.token_probability(a, b.log_probs.tolist(), 0.3)),
        (
            "high_entropy",
            {"share": 0.2},
            lambda a, b: reference.high_entropy(a, b.entropies.tolist(), b.mask.tolist(), 0.2),
        ),
        (
            "entropy_weight",
            {"beta": 0.7},
            lambda a, b: reference.entropy_weight(a, b.entropies.tolist(), b.mask.tolist(), 0.7),
        ),
    ],
)
def test_a_term_equals_its_reference(seed, name, options, expected):
    batch = random_batch(seed)
    advantages = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(seed))
    assert_equal_under_the_mask(
        applied(name, batch, advantages, **options), expected(advantages.tolist(), batch), batch.mask
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_kalman_baseline_equals_its_reference(seed):
    batch = random_batch(seed)
    found = applied("kalman_baseline", batch, torch.zeros(batch.mask.shape), process_noise=1e-3)
    groups = batch.rewards.double().view(GROUPS, SAMPLES).tolist()
    expected = [a for rewards in groups for a in reference.kalman_baseline(rewards, process_noise=1e-3)]
    # Advantages are up to 10 here; float32 holds them to 1e-6 relatively.
    for row, value in enumerate(expected):
        assert (found[row][batch.mask[row]].double().sub(value).abs() <= 1e-6 * max(1, abs(value))).all()


def hand_worked(**changes) -> RolloutBatch:
    values = {
        "token_ids": torch.tensor([[5, 6], [5, 7]], dtype=torch.int32),
        "mask": torch.ones(2, 2, dtype=torch.bool),
        "group": torch.tensor([0, 0]),
        "rewards": torch.tensor([1.0, 0.0]),
        "log_probs": torch.tensor([[0.9, 0.5], [0.25, 1.0]]).log(),
        "entropies": torch.tensor([[0.5, 1.5], [2.0, 0.0]]),
    }
    return RolloutBatch(**(values | changes))


def test_the_examples_of_the_document():
    advantages = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    batch = hand_worked()
    torch.testing.assert_close(
        applied("token_probability", batch, advantages, alpha=0.2), torch.tensor([[0.98, 0.9], [-0.85, -1.0]])
    )
    assert applied("high_entropy", batch, advantages, share=0.25).tolist() == [[0, 0], [-1, 0]]
    torch.testing.assert_close(
        applied("entropy_weight", batch, advantages, beta=0.1), torch.tensor([[1.05, 1.15], [-1.2, -1.0]])
    )
    four = hand_worked(
        token_ids=torch.full((4, 1), 5, dtype=torch.int32), mask=torch.ones(4, 1, dtype=torch.bool),
        group=torch.zeros(4, dtype=torch.long), rewards=torch.tensor([1.0, 0.0, 1.0, 0.0]), log_probs=torch.zeros(4, 1),
    )  # fmt: skip
    found = applied("kalman_baseline", four, torch.zeros(4, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor([0.10, -7.05, 5.81, -9.96]), atol=0.005, rtol=0)


def test_the_kalman_baseline_depends_on_the_order_of_a_group():
    def of(rewards):
        return sorted(reference.kalman_baseline(rewards))

    assert max(abs(a - b) for a, b in zip(of([1, 0, 1, 0]), of([0, 0, 1, 1]), strict=True)) > 1


def test_ties_at_the_entropy_threshold_are_kept_and_one_token_always_is():
    batch = hand_worked(entropies=torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    assert applied("high_entropy", batch, torch.ones(2, 2), share=0.25).tolist() == [[1, 1], [1, 0]]
    assert applied("high_entropy", hand_worked(), torch.ones(2, 2), share=0.01).sum() == 1


def test_a_policy_without_entropy_keeps_its_advantages():
    batch = hand_worked(entropies=torch.zeros(2, 2))
    assert applied("entropy_weight", batch, torch.ones(2, 2)).tolist() == [[1, 1], [1, 1]]


def test_terms_compose_in_either_order_as_multiplications_do():
    batch, advantages = random_batch(0), torch.ones(GROUPS * SAMPLES, LENGTH)
    one = apply_terms(loaded(TERM, ["token_probability", "high_entropy"], {}), batch, advantages).advantages
    two = apply_terms(loaded(TERM, ["high_entropy", "token_probability"], {}), batch, advantages).advantages
    assert torch.equal(one, two)


def test_lopti_splits_the_generated_tokens_into_two_passes():
    loss = next(iter(loaded(LOSS, ["lopti"], {"lopti": {"threshold": 0.4}}).values()))
    old, mask = torch.tensor([[0.1, 0.39, 0.4, 0.9, 0.2]]).log(), torch.tensor([[1, 1, 1, 1, 0]])
    assert loss.pass_mask(0, old, mask).tolist() == [[1, 1, 0, 0, 0]]
    assert loss.pass_mask(1, old, mask).tolist() == [[0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("terms", "loss", "changes", "said"),
    [
        (["kalman_baseline"], "openrlhf", {"algo__advantage__estimator": "rloo"}, "estimator: got rloo; kalman_base"),
        (["ktae", "kalman_baseline"], "openrlhf", {}, "kalman_baseline replaces the advantages.* put it first"),
        (["kalman_baseline"], "openrlhf", {"algo__kl__use_loss": False}, "KL penalty is part of the advantages"),
        ([], "lopti", {"actor__loss_agg_mode": "seq-mean"}, "lopti .* needs token-mean and ppo"),
        (["ktae"], "openrlhf", {"algo__advantage__estimator": "gae"}, "ktae adds to one without a critic"),
        (
            ["kalman_baseline"],
            "openrlhf",
            {"rollout__n_samples_per_prompt": 1},
            "kalman_baseline compares",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused(terms, loss, changes, said):
    class Config:
        def __init__(self):
            self.terms, self.policy_loss, self.sections = tuple(terms), loss, {}

    args = arguments()
    for name, value in changes.items():
        holder, *path = args, *name.split("__")
        for part in path[:-1]:
            holder = getattr(holder, part)
        setattr(holder, path[-1], value)
    with pytest.raises(PreflightError, match=said):
        check_methods(Config(), args)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ("ref_log_probs", r"algo\.kl\.use_loss, algo\.kl\.init_coef: True and 0"),
        ("rollout_log_probs", r"algo\.advantage\.is_correction_level: off"),
        ("telepathy", r"my: needs 'telepathy', which no run has"),
    ],
)
def test_a_need_that_the_run_lacks_is_refused(tmp_path, need, said):
    path = tmp_path / "my.py"
    path.write_text(
        "from openrlhf_ktae.advantage.term import AdvantageTerm\n"
        f"class Term(AdvantageTerm):\n    needs = ('{need}',)\n    def apply(self, batch, advantages): ...\n"
    )

    class Config:
        terms, policy_loss, sections = (str(path),), "openrlhf", {}

    args = arguments()
    args.algo.kl.init_coef = 0
    with pytest.raises(PreflightError, match=said):
        check_methods(Config(), args)  # pyright: ignore[reportArgumentType]
