"""Advantage terms: the table, a stranger's file, what is refused, and how terms follow each other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from method_references import METHODS, document_example
from openrlhf_parts import arguments, experiences, maker

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.term import TERM, AdvantageTerm, TermResult, apply_terms
from openrlhf_ktae.advantage.terms import TERMS
from openrlhf_ktae.losses import LOSSES
from openrlhf_ktae.losses.loss import LOSS
from openrlhf_ktae.plugins import loaded
from openrlhf_ktae.recipe import RecipeError, resolve

ROOT = Path(__file__).resolve().parents[2]


def batch(**changes) -> RolloutBatch:
    values = {
        "token_ids": torch.tensor([[5, 6, 0], [5, 7, 8]], dtype=torch.int32),
        "mask": torch.tensor([[True, True, False], [True, True, True]]),
        "group": torch.tensor([0, 0]),
        "rewards": torch.tensor([1.0, 0.0]),
        "log_probs": torch.tensor([[-0.1, -0.2, 0.0], [-0.3, -0.4, -0.5]]),
        "scores": torch.tensor([1.0, 0.0]),
        "step": 7,
    }
    return RolloutBatch(**(values | changes))


def term(apply) -> AdvantageTerm:
    return type("Term", (AdvantageTerm,), {"apply": apply})(AdvantageTerm.Options())


@pytest.mark.parametrize(("names", "folder"), [(TERMS, "advantage/terms"), (LOSSES, "losses")], ids=["terms", "losses"])
def test_the_table_names_what_is_in_the_folder_and_in_the_document(names, folder):
    files = {path.stem for path in (ROOT / "openrlhf_ktae" / folder).glob("*.py")} - {"__init__", "loss"}
    assert set(names) == files
    assert all(f"| `{name}` |" in METHODS for name in names)


@pytest.mark.parametrize("name", TERMS)
def test_every_option_of_a_term_is_documented(name):
    documents = METHODS + (ROOT / "docs" / "estimator.md").read_text()
    for option in TERM.load(name).Options.model_fields:
        assert re.search(rf"`(?:{name}\.|\.)?{option}`", documents), option


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_of_a_loss_is_documented(name):
    for option in LOSS.load(name).Options.model_fields:
        assert f"`{name}.{option}`" in METHODS, option


def test_recipes_with_terms_are_resolved_without_torch():
    code = (
        "import sys; from openrlhf_ktae.recipe import resolve\n"
        f"for term in {TERMS!r}: resolve('recipes/quickstart', [f'advantage.terms=[{{term}}]'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def test_a_strangers_term_is_resolved_checked_and_applied(tmp_path, monkeypatch):
    path = document_example("my_term.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    quickstart = ROOT / "recipes" / "quickstart"
    config = resolve(quickstart, ["advantage.terms=[ktae, ./my_term.py]", "my_term.decay=0.5"])
    assert config.terms == ("ktae", str(path)) and config.settings()["my_term.decay"] == 0.5
    with pytest.raises(RecipeError, match=r"my_term\.decay: got 0 in --set"):
        resolve(quickstart, ["advantage.terms=[./my_term.py]", "my_term.decay=0"])
    with pytest.raises(RecipeError, match=r"my_term\.decoy: unknown option; did you mean my_term\.decay"):
        resolve(quickstart, ["advantage.terms=[./my_term.py]", "my_term.decoy=1"])
    terms = loaded(TERM, [str(path)], {"my_term": {"decay": 0.25}})
    outcome = apply_terms(terms, batch(), torch.ones(2, 3))
    torch.testing.assert_close(outcome.advantages[1], 0.25 ** (torch.arange(3) / 100))
    assert set(outcome.columns) == {"weight", "surprise"} and outcome.metrics["my_term/steps"] == 1
    again = loaded(TERM, [str(path)], {})["my_term"]
    again.load_state_dict(terms["my_term"].state_dict())
    assert again.state_dict() == {"steps": 1}


@pytest.mark.parametrize(
    ("source", "text", "said"),
    [
        ("ktea", None, r"advantage\.terms: 'ktea' is unknown; did you mean ktae"),
        ("./nowhere.py", None, r"nowhere\.py does not exist"),
        ("./mine.py", "x = 1", r"mine\.py holds no class Term\(AdvantageTerm\)"),
        ("./mine.py", "import nothing_like_it", r"mine\.py cannot be imported: ModuleNotFoundError"),
        (
            "./mine.py",
            "from openrlhf_ktae.advantage.term import AdvantageTerm\n"
            "class Term(AdvantageTerm):\n    def apply(self, advantages): ...\n",
            r"mine\.py: Term\.apply\(self, advantages\), expected apply\(self, batch, advantages\)",
        ),
        ("[ktae, ktae]", None, "ktae is named twice"),
        ("./run.py", "x = 1", "run is a section already; give the file another name"),
    ],
)
def test_a_term_that_cannot_work_is_refused_with_the_recipe(tmp_path, monkeypatch, source, text, said):
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / source).write_text(text)
    terms = source if source.startswith("[") else f"[{source}]"
    with pytest.raises(RecipeError, match=said):
        resolve(ROOT / "recipes" / "quickstart", [f"advantage.terms={terms}"])


@pytest.mark.parametrize(
    ("apply", "said"),
    [
        (lambda self, batch, a: a / 0 * 0, r"my gives nan for token 0 of rollout 0 in step 7"),
        (
            lambda self, batch, a: a[:1],
            r"my returned torch\.float32 of shape \(1, 3\), expected floats of shape \(2, 3\)",
        ),
        (lambda self, batch, a: a.long(), r"my returned torch\.int64"),
        (lambda self, batch, a: None, r"my returned NoneType"),
        (lambda self, batch, a: TermResult(a, columns={"c": a[:1]}), r"my gives a column 'c' of shape \(1, 3\)"),
        (lambda self, batch, a: TermResult(), r"my returned NoneType"),
        (lambda self, batch, a: TermResult(a, added=a), r"my returned both `advantages` and `added`; return one"),
        (lambda self, batch, a: TermResult(added=a[:1]), r"my returned torch\.float32 of shape \(1, 3\)"),
        (lambda self, batch, a: TermResult(added=a / 0), r"my gives inf for token 0 of rollout 0 in step 7"),
        (lambda self, batch, a: TermResult(added=a.double() / 0), r"my gives inf for token 0 of rollout 0 in step 7"),
    ],
)
def test_what_a_term_may_not_return(apply, said):
    with pytest.raises(ValueError, match=said):
        apply_terms({"my": term(apply)}, batch(), torch.ones(2, 3))


def test_two_terms_may_not_give_the_same_column():
    give = term(lambda self, batch, a: TermResult(a, columns={"weight": a}))
    with pytest.raises(ValueError, match=r"second gives a column 'weight', and so does a term before it"):
        apply_terms({"first": give, "second": give}, batch(), torch.ones(2, 3))


def test_terms_follow_each_other_and_leave_masked_positions_alone():
    double, add = term(lambda self, batch, a: a * 2), term(lambda self, batch, a: a + 1)
    before = torch.tensor([[1.0, 1.0, 9.0], [1.0, 1.0, 1.0]])
    first = apply_terms({"double": double, "add": add}, batch(), before).advantages
    second = apply_terms({"add": add, "double": double}, batch(), before).advantages
    assert first.tolist() == [[3, 3, 9], [3, 3, 3]] and second.tolist() == [[4, 4, 9], [4, 4, 4]]


def nan_where_masked(batch, values):
    return torch.where(batch.mask, values, float("nan"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "apply",
    [
        lambda self, batch, a: nan_where_masked(batch, a + 1),
        lambda self, batch, a: TermResult(added=nan_where_masked(batch, torch.ones_like(a))),
    ],
    ids=["advantages", "added"],
)
def test_a_masked_position_may_hold_anything(apply, dtype):
    before = torch.ones(2, 3, dtype=dtype)
    after = apply_terms({"nan": term(apply)}, batch(), before).advantages
    assert after.tolist() == [[2, 2, 1], [2, 2, 2]] and after.dtype == dtype
    assert before.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_what_is_added_changes_no_tensor_but_one_given_away_for_it():
    add = term(lambda self, batch, a: TermResult(added=torch.ones_like(a)))
    keep = term(lambda self, batch, a: TermResult(added=torch.ones_like(a), columns={"before": a}))
    before = torch.ones(2, 3)
    outcome = apply_terms({"keep": keep, "add": add}, batch(), before, in_place=True)
    # The log reads the column later.
    assert outcome.columns["before"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert outcome.advantages.tolist() == [[3, 3, 1], [3, 3, 3]]
    assert apply_terms({"add": add}, batch(), before, in_place=True).advantages is before


def test_correctness_needs_scores_of_0_and_1():
    with pytest.raises(ValueError, match=r"scores: the reward source gave none"):
        _ = batch(scores=None).correct
    with pytest.raises(ValueError, match=r"scores: found 0\.5, expected 0 \(wrong\) or 1 \(correct\)"):
        _ = batch(scores=torch.tensor([1.0, 0.5])).correct


@pytest.mark.parametrize("rows", [4, 5, 64])
def test_the_batch_holds_every_rollout_in_sampling_order(rows):
    ours = maker(arguments(), ())
    scored = experiences(6, rows, shuffle=True)
    for one in scored:
        one.info["number"] = torch.tensor([float(place) for place in one.index])
        one.action_log_probs = one.sequences[:, 1:].float()
    ours.compute_advantages_and_returns(scored)
    found = ours.batch
    assert found is not None and found.info["number"].tolist() == list(range(24))
    assert found.prompts == [f"prompt {place // 4}" for place in range(24)]
    for one in scored:
        for row, place in enumerate(one.index):
            length = one.sequences.size(1) - 1
            assert torch.equal(found.token_ids[place, :length], one.sequences[row, 1:])
            assert torch.equal(found.mask[place, :length], one.action_mask[row].bool())
            assert not found.mask[place, length:].any()
    assert torch.equal(found.log_probs.int() * found.mask, found.token_ids * found.mask)
