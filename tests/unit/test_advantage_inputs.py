import pytest
import torch

from openrlhf_ktae.advantage import KtaeConfig, batch_diagnostics, key_token_values, token_statistics


def inputs(**changes):
    return {
        "token_ids": torch.tensor([[1, 2, 3], [3, 4, 5]]),
        "mask": torch.ones(2, 3, dtype=torch.bool),
        "correct": torch.tensor([True, False]),
        "group": torch.tensor([0, 0]),
        **changes,
    }


BAD = {
    "ids of one dimension": ({"token_ids": torch.tensor([1, 2])}, r"token_ids: shape \(2,\), expected \(N, T\)"),
    "ids that are floats": ({"token_ids": torch.ones(2, 3)}, "token_ids: dtype torch.float32, expected an integer"),
    "ids that are bool": ({"token_ids": torch.ones(2, 3) > 0}, "token_ids: dtype torch.bool, expected an integer"),
    "a mask of another shape": ({"mask": torch.ones(2, 4)}, r"mask: shape \(2, 4\), expected \(2, 3\)"),
    "a mask of weights": ({"mask": torch.full((2, 3), 0.5)}, "mask: found the value 0.5, expected only 0 and 1"),
    "a mask of -1": ({"mask": torch.full((2, 3), -1)}, "mask: found the value -1, expected only 0 and 1"),
    "a mask of NaN": ({"mask": torch.full((2, 3), torch.nan)}, "mask: found the value nan, expected only 0 and 1"),
    "a correct per position": ({"correct": torch.ones(2, 3)}, r"correct: shape \(2, 3\), expected \(2,\)"),
    "a reward instead of correctness": ({"correct": torch.tensor([1.0, -0.5])}, "correct: found the value -0.5"),
    "a NaN correctness": ({"correct": torch.tensor([1.0, torch.nan])}, "correct: found the value nan"),
    "too few groups": ({"group": torch.tensor([0])}, r"group: shape \(1,\), expected \(2,\)"),
    "a group that is a float": ({"group": torch.zeros(2)}, "group: dtype torch.float32, expected an integer"),
    "a negative id": ({"token_ids": torch.tensor([[1, 2, 3], [3, -100, 5]])}, "token_ids: -100 under the mask"),
    "an id beyond any vocabulary": (
        {"token_ids": torch.tensor([[1, 2, 3], [3, 2**40, 5]])},
        f"token_ids: {2**40} under the mask, expected 0 <= id < 16777216; mask such positions out",
    ),
}


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("case", BAD)
def test_inputs_that_make_no_sense_are_named(case, backend):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        key_token_values(**inputs(**changes), backend=backend)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_negative_id_is_found_in_any_thread(threads):
    ids = torch.ones(4000, 400, dtype=torch.int64)
    ids[3990, 7] = -5
    with pytest.raises(ValueError, match="token_ids: -5 under the mask"):
        key_token_values(ids, torch.ones_like(ids), torch.arange(4000) % 2, torch.arange(4000) // 8, threads=threads)


def test_the_largest_id_is_taken():
    changes = inputs(token_ids=torch.tensor([[1, 2, 3], [3, 2**24 - 1, 5]]))
    found = key_token_values(**changes, backend="numba")
    assert found[1, 1] < 0
    assert torch.equal(found, key_token_values(**changes, backend="torch"))


def test_statistics_check_their_inputs_too():
    with pytest.raises(ValueError, match="correct: shape"):
        token_statistics(**inputs(correct=torch.ones(3)))


def test_diagnostics_check_their_inputs_too():
    batch = inputs()
    del batch["token_ids"]
    with pytest.raises(ValueError, match=r"mask: shape \(2, 3\), expected \(2, 4\) like values"):
        batch_diagnostics(torch.zeros(2, 4), **batch)
    with pytest.raises(ValueError, match=r"values: dtype torch\.int64"):
        batch_diagnostics(torch.zeros(2, 3, dtype=torch.int64), **batch)


@pytest.mark.parametrize(("option", "value"), [("backend", "cuda"), ("threads", 0)])
def test_unknown_choices_are_named(option, value):
    with pytest.raises(ValueError, match=f"{option}: got"):
        key_token_values(**inputs(), **{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0, "beta": 0}, r"ktae.alpha \+ ktae.beta must be positive"),
        ({"alpha": -1}, "alpha"),
        ({"beta": -1}, "beta"),
        ({"gamma": -1}, "gamma"),
        ({"scale": -1}, "scale"),
        ({"eps": 0}, "eps"),
        ({"k1": float("nan")}, "k1"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        KtaeConfig(**options)
