import ktae_oracle
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openrlhf_ktae.advantage import KtaeConfig, key_token_values
from openrlhf_ktae.advantage.estimator.inputs import check_batch, strength_tables
from openrlhf_ktae.advantage.estimator.torch_kernel import torch_values

BACKENDS = ["numba", "torch"]
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def batches(draw):
    """Few ids, so that counts collide; groups interleaved and of any size; holes, empty rows, every mask dtype."""
    rows, columns = draw(st.integers(0, 14)), draw(st.integers(0, 10))
    vocabulary = draw(st.sampled_from([[0, 1, 2], [5, 99, 151_643], [7, 200_000, 262_143, 300_001]]))
    ids = draw(st.lists(st.lists(st.sampled_from(vocabulary), min_size=columns, max_size=columns),
                        min_size=rows, max_size=rows))  # fmt: skip
    shape = draw(st.sampled_from(["right padded", "holes", "full"]))
    mask = []
    for _ in range(rows):
        length = columns if shape == "full" else draw(st.integers(0, columns))
        row = [1] * length + [0] * (columns - length)
        if shape == "holes":
            row = draw(st.lists(st.integers(0, 1), min_size=columns, max_size=columns))
        mask.append(row)
    return {
        "token_ids": torch.tensor(ids, dtype=draw(st.sampled_from([torch.int64, torch.int32]))).reshape(rows, columns),
        "mask": torch.tensor(mask, dtype=draw(st.sampled_from([torch.bool, torch.int64, torch.float32, torch.int8])))
        .reshape(rows, columns),
        "correct": torch.tensor(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype=torch.bool)
        .to(draw(st.sampled_from([torch.bool, torch.float16, torch.bfloat16, torch.int64]))),
        "group": torch.tensor(draw(st.lists(st.integers(-1, 2), min_size=rows, max_size=rows)), dtype=torch.int64),
    }  # fmt: skip


@st.composite
def configs(draw):
    weight = st.sampled_from([0.0, 0.3, 1.0, 2.5])
    alpha, beta = draw(weight), draw(weight)
    return KtaeConfig(
        alpha=alpha,
        beta=beta if alpha + beta > 0 else 1.0,
        gamma=draw(st.sampled_from([0.0, 0.01, 1.0])),
        scale=draw(st.sampled_from([0.0, 0.5, 1.0])),
        k1=draw(st.sampled_from([0.0, 1.2, 2.0])),
        b0=draw(st.sampled_from([0.0, 0.5, 1.0])),
        eps=draw(st.sampled_from([1e-5, 1e-2])),
        tf_smoothing=draw(st.sampled_from([0.0, 0.5, 2.0])),
        ignore_token_ids=tuple(draw(st.lists(st.sampled_from([0, 2, 99, 262_143, 10**6]), max_size=3, unique=True))),
    )


def expected(batch, config):
    lists = ktae_oracle.oracle_values(*(tensor.tolist() for tensor in batch.values()), config)
    return torch.tensor(lists, dtype=torch.float64).reshape(batch["mask"].shape)


def random_batch(seed, rows=64, columns=120, groups=5, vocabulary=60):
    generator = torch.Generator().manual_seed(seed)
    # Squaring makes low ids common and high ids rare.
    ids = (torch.rand(rows, columns, generator=generator) ** 2 * vocabulary).long()
    lengths = torch.randint(0, columns + 1, (rows,), generator=generator)
    return {
        "token_ids": ids,
        "mask": torch.arange(columns) < lengths[:, None],
        "correct": torch.rand(rows, generator=generator) < 0.5,
        "group": torch.randint(0, groups, (rows,), generator=generator),
    }


@quick
@given(batches(), configs())
def test_both_backends_equal_the_oracle(batch, config):
    reference = expected(batch, config)
    for backend in BACKENDS:
        found = key_token_values(**batch, config=config, backend=backend)
        assert found.dtype == torch.float32
        assert found.shape == reference.shape
        assert torch.isfinite(found).all()
        assert not found[batch["mask"] == 0].any()
        torch.testing.assert_close(found.double(), reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("groups", [1, 3, 20])
def test_larger_batches_equal_the_oracle(backend, groups):
    batch = random_batch(groups, rows=96, groups=groups)
    found = key_token_values(**batch, backend=backend)
    torch.testing.assert_close(found.double(), expected(batch, KtaeConfig()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_worked_by_hand(backend):
    # Token 1 in both correct rollouts only, 2 in both wrong ones only, 3 everywhere: p = 1/3, IG = 1, h = pi/2, r = 0.
    config = KtaeConfig(gamma=0.0)
    found = key_token_values(
        torch.tensor([[1, 3], [1, 3], [2, 3], [3, 2]]), torch.ones(4, 2), torch.tensor([1, 1, 0, 0]),
        torch.zeros(4, dtype=torch.int64), config, backend=backend,
    )  # fmt: skip
    # S = (exp(-2/3) + 1) / 2 = 0.7567086, K = tanh(S * pi / 4)
    key = 0.5329937
    torch.testing.assert_close(found, torch.tensor([[key, 0], [key, 0], [-key, 0], [0, -key]]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_degenerate_groups_have_no_value(backend):
    ids, ones = torch.randint(0, 5, (6, 8)), torch.ones(6, 8, dtype=torch.bool)
    group = torch.tensor([0, 1, 1, 2, 2, 2])  # one rollout; all correct; all wrong
    correct = torch.tensor([True, True, True, False, False, False])
    assert not key_token_values(ids, ones, correct, group, backend=backend).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_class_without_tokens_has_no_value(backend):
    mask = torch.tensor([[True] * 4, [False] * 4])
    found = key_token_values(torch.ones(2, 4, dtype=torch.int64), mask, torch.tensor([1, 0]), torch.tensor([3, 3]),
                             backend=backend)  # fmt: skip
    assert not found.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (5, 0)])
def test_empty_batches(backend, shape):
    rows = shape[0]
    found = key_token_values(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape), torch.ones(rows),
                             torch.zeros(rows, dtype=torch.int64), backend=backend)  # fmt: skip
    assert found.shape == shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_value_depends_on_its_own_group_alone(backend):
    batch = random_batch(1)
    whole = key_token_values(**batch, backend=backend)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(3))
    shuffled = key_token_values(**{name: tensor[order] for name, tensor in batch.items()}, backend=backend)
    assert torch.equal(shuffled, whole[order])
    for name in range(5):
        rows = batch["group"] == name
        alone = key_token_values(**{name: tensor[rows] for name, tensor in batch.items()}, backend=backend)
        assert torch.equal(alone, whole[rows])
    renamed = key_token_values(**{**batch, "group": -7 * batch["group"]}, backend=backend)
    assert torch.equal(renamed, whole)


def test_the_number_of_threads_changes_no_bit():
    batch = random_batch(2, rows=1200, columns=1000, groups=150, vocabulary=3000)
    one = key_token_values(**batch, backend="numba", threads=1)
    for threads in (2, 3, 5):
        assert torch.equal(key_token_values(**batch, backend="numba", threads=threads), one)


def test_the_size_of_chunks_changes_no_bit():
    batch = random_batch(4)
    checked, config = check_batch(**batch), KtaeConfig()
    tables = strength_tables(checked, config)
    whole = torch_values(checked, tables, config)
    # The smallest cuts every group into blocks of single rollouts.
    for chunk_bytes in (1, 300, 5000, 10**6):
        assert torch.equal(torch_values(checked, tables, config, chunk_bytes), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_layout_and_dtypes_change_no_bit(backend):
    batch = random_batch(5)
    whole = key_token_values(**batch, backend=backend)
    padded_ids = torch.nn.functional.pad(batch["token_ids"], (1, 2))
    padded_mask = torch.nn.functional.pad(batch["mask"], (3, 0))
    views = {"token_ids": padded_ids[:, 1:-2], "mask": padded_mask[:, 3:]}
    transposed = {"token_ids": batch["token_ids"].T.contiguous().T, "mask": batch["mask"].T.contiguous().T}
    narrow = {"token_ids": batch["token_ids"].to(torch.uint8), "mask": batch["mask"].to(torch.float16)}
    for changed in (views, transposed, narrow, {"token_ids": batch["token_ids"].int()}):
        assert torch.equal(key_token_values(**{**batch, **changed}, backend=backend), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_stay_as_they_were_and_the_result_is_its_own(backend):
    batch = random_batch(6)
    before = {name: tensor.clone() for name, tensor in batch.items()}
    first = key_token_values(**batch, backend=backend)
    copy = first.clone()
    assert torch.equal(key_token_values(**batch, backend=backend), first)
    first.add_(1.0)
    assert torch.equal(key_token_values(**batch, backend=backend), copy)
    assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_at_masked_positions_are_never_looked_at(backend):
    batch = random_batch(7)
    junk = torch.where(batch["mask"], batch["token_ids"], torch.tensor([-100, 2**40])[torch.arange(120) % 2])
    assert torch.equal(
        key_token_values(**{**batch, "token_ids": junk}, backend=backend), key_token_values(**batch, backend=backend)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_scale_is_zero_everywhere(backend):
    assert not key_token_values(**random_batch(8), config=KtaeConfig(scale=0), backend=backend).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [{"alpha": 2.0}, {"beta": 2.0}, {"gamma": 0.5}, {"scale": 0.5}, {"k1": 1.0}, {"b0": 1.0}, {"eps": 1e-2},
     {"tf_smoothing": 1.0}, {"ignore_token_ids": (1,)}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_option_changes_the_values(backend, change):
    batch = random_batch(9)
    assert not torch.equal(
        key_token_values(**batch, backend=backend),
        key_token_values(**batch, config=KtaeConfig(**change), backend=backend),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_ignored_ids_lose_their_value_and_change_no_other(backend):
    batch = random_batch(10)
    ignored = (batch["token_ids"] == 1) | (batch["token_ids"] == 2)
    plain = key_token_values(**batch, backend=backend)
    found = key_token_values(**batch, config=KtaeConfig(ignore_token_ids=(1, 2)), backend=backend)
    assert torch.equal(found, plain.masked_fill(ignored, 0.0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_of_more_rollouts_than_int64_binomials_hold(backend):
    batch = random_batch(11, rows=90, columns=30, groups=1)
    found = key_token_values(**batch, backend=backend)
    torch.testing.assert_close(found.double(), expected(batch, KtaeConfig()), rtol=0, atol=1e-6)
