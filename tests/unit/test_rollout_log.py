"""The rollout log: what the files hold, which groups, and what happens when the disk or a term fails."""

import threading
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from openrlhf_parts import arguments, experiences, maker

from openrlhf_ktae.advantage.term import TERM
from openrlhf_ktae.config import RunOptions
from openrlhf_ktae.plugins import loaded
from openrlhf_ktae.run_folder import VOCABULARY_FILE, RunFolder, read_vocabulary
from openrlhf_ktae.training import guards, rollout_log, trainer
from openrlhf_ktae.training.options import TrainingOptions
from openrlhf_ktae.training.rollout_log import LOG_PROB_STEPS, RolloutLog, Vocabulary, logged_groups, write_rollouts


@pytest.fixture
def made():
    """A maker whose batch and outcome are those of a step of eight prompts, with holes in the mask."""
    ours, scored = maker(arguments()), experiences(8, 5, shuffle=True)
    for one in scored:
        one.action_log_probs = -torch.rand(one.action_log_probs.shape, generator=torch.Generator().manual_seed(2))
        one.action_mask[:, 3] = 0
    ours.step = 20
    ours.compute_advantages_and_returns(scored)
    return ours


def text(token_id: int) -> str:
    return f" w{token_id}"


def write(folder, made, share=1.0):
    write_rollouts(folder, made.batch, made.outcome, made.terms, Vocabulary(folder / VOCABULARY_FILE, text), share)


def test_log_probabilities_are_exact_where_a_term_computes_with_them(made, tmp_path):
    made.terms = loaded(TERM, ["token_probability"], {})
    write(tmp_path, made)
    for place, row in enumerate(pq.read_table(tmp_path / "step_00020.parquet").to_pylist()):
        start = int(made.batch.mask[place].long().argmax()) if row["log_prob"] else 0
        expected = made.batch.log_probs[place, start : start + len(row["log_prob"])]
        assert row["log_prob"] == expected.tolist()


def test_a_row_holds_its_rollout_from_the_first_generated_token_to_the_last(made, tmp_path):
    write(tmp_path, made)
    rows = pq.read_table(tmp_path / "step_00020.parquet").to_pylist()
    batch, values = made.batch, made.outcome.columns["key_token_value"]
    assert [(row["group"], row["rollout"]) for row in rows] == [(g, r) for g in range(8) for r in range(4)]
    for place, row in enumerate(rows):
        generated = batch.mask[place].nonzero().flatten().tolist() or [0, -1]  # some rows generated nothing
        here = slice(generated[0], generated[-1] + 1)
        assert row["token_ids"] == batch.token_ids[place, here].tolist()
        assert row["generated"] == batch.mask[place, here].tolist()
        assert row["advantage"] == made.outcome.advantages[place, here].tolist()
        assert row["key_token_value"] == values[place, here].tolist()
        assert row["log_prob"] == pytest.approx(batch.log_probs[place, here].tolist(), abs=0.5 / LOG_PROB_STEPS)
        assert row["response"] == "".join(map(text, row["token_ids"]))
        assert (row["step"], row["prompt"], row["label"]) == (20, f"prompt {place // 4}", "1")
        assert row["score"] == row["reward"] == batch.scores[place] and row["correct"] == (row["score"] > 0)
        assert row["truncated"] is False
    vocabulary = read_vocabulary(tmp_path / VOCABULARY_FILE)
    assert vocabulary == {i: text(i) for i in {i for row in rows for i in row["token_ids"]}}
    counted = pq.read_table(tmp_path / "step_00020_tokens.parquet").to_pylist()
    expected = made.terms["ktae"].token_table(batch)
    for name, column in expected.items():
        assert [row[name] for row in counted] == pytest.approx(column.tolist(), rel=1e-6, nan_ok=True)


def test_a_row_group_holds_two_prompts(made, tmp_path):
    write(tmp_path, made)
    file = pq.ParquetFile(tmp_path / "step_00020.parquet")
    found = [set(file.read_row_group(i, columns=["group"])["group"].to_pylist()) for i in range(file.num_row_groups)]
    assert found == [{0, 1}, {2, 3}, {4, 5}, {6, 7}]
    statistics = file.metadata.row_group(1).column(file.schema_arrow.get_field_index("group")).statistics
    assert (statistics.min, statistics.max) == (2, 3)


def test_the_vocabulary_of_a_resumed_run_keeps_what_it_has(made, tmp_path):
    path = tmp_path / VOCABULARY_FILE
    Vocabulary(path, lambda token_id: "old").texts(np.array([3, 100]))
    before = Vocabulary(path, lambda token_id: "old")
    before.texts(np.array([3, 100]))
    before.save()
    write(tmp_path, made)
    found = read_vocabulary(path)
    assert found[100] == found[3] == "old" and found[4] == " w4" and list(found) == sorted(found)


@pytest.mark.parametrize(("share", "expected"), [(0.0, [1, 4]), (0.25, [1, 4]), (0.5, [0, 1, 3, 4]), (1.0, range(8))])
def test_groups_with_right_and_wrong_answers_are_always_written(made, tmp_path, share, expected):
    scores = torch.zeros(8, 4)
    scores[[1, 4], 0] = 1.0
    scores[6] = 1.0
    batch = made.batch
    object.__setattr__(batch, "scores", scores.flatten())
    found = logged_groups(batch, share).tolist()
    assert set(expected) >= {1, 4} and len(found) == len(list(expected)) and {1, 4} <= set(found)
    assert sorted(found) == found
    write(tmp_path, made, share)
    rows = pq.read_table(tmp_path / "step_00020.parquet")
    assert rows["group"].to_pylist() == [group for group in found for _ in range(4)]
    tokens = pq.read_table(tmp_path / "step_00020_tokens.parquet")
    assert sorted(set(tokens["group"].to_pylist())) == found


def test_without_scores_a_share_of_the_groups_is_written(made):
    object.__setattr__(made.batch, "scores", None)
    assert len(logged_groups(made.batch, 0.5)) == 4


def test_training_goes_on_while_a_step_is_written_and_finish_waits_for_it(made, tmp_path, monkeypatch):
    may_write, written = threading.Event(), []

    def slow(folder, batch, *_):
        assert may_write.wait(10)
        written.append(batch.step)

    monkeypatch.setattr(rollout_log, "write_rollouts", slow)
    log = RolloutLog(tmp_path, text)
    log.add(made.batch, made.outcome, made.terms)
    log.add(made.batch, made.outcome, made.terms)
    assert written == []
    threading.Timer(0.05, may_write.set).start()
    log.finish()
    assert written == [20, 20]


def test_a_full_disk_costs_the_file_and_a_warning(made, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(rollout_log.logger, "warning", warnings.append)
    (tmp_path / "rollouts").write_text("a file where the folder should be")
    log = RolloutLog(tmp_path / "rollouts", text)
    log.add(made.batch, made.outcome, made.terms)
    log.finish()
    (warning,) = warnings
    assert warning.startswith("rollouts of step 20 are not in")
    (tmp_path / "rollouts").unlink()
    log.add(made.batch, made.outcome, made.terms)
    log.finish()
    assert {path.name for path in (tmp_path / "rollouts").iterdir()} == {
        "step_00020.parquet", "step_00020_tokens.parquet", VOCABULARY_FILE,
    }  # fmt: skip


def test_what_breaks_in_a_terms_table_reaches_the_training_thread(made, tmp_path, monkeypatch):
    def broken(batch):
        raise KeyError("no such count")

    monkeypatch.setattr(made.terms["ktae"], "token_table", broken)
    log = RolloutLog(tmp_path, text)
    log.add(made.batch, made.outcome, made.terms)
    with pytest.raises(KeyError, match="no such count"):
        log.finish()
    log.finish()


def trainer_of(made, folder, upstream):
    """Our half of a trainer over a stand-in for OpenRLHF's, with step 20 made and its statistics taken."""

    class Training(trainer.Training, upstream):
        def __init__(self):
            self.options = TrainingOptions("", RunOptions(rollout_log_steps=10), {})
            self.args = SimpleNamespace(ckpt=SimpleNamespace(save_steps=20))
            self.experience_maker, self._folder, self._step = made, RunFolder(folder), 20
            self._rollout_log, self._to_log = RolloutLog(self._folder.rollouts, text), None
            self._collapse, self._term_seconds = guards.CollapseWatch(100), {}

        def _log(self, *_):
            pass

    training = Training()
    folder.mkdir()
    return training


def test_rollouts_are_written_while_the_policy_trains_and_are_there_before_a_checkpoint(made, tmp_path, monkeypatch):
    may_write, really = threading.Event(), rollout_log.write_rollouts
    monkeypatch.setattr(rollout_log, "write_rollouts", lambda *args: may_write.wait(10) and really(*args))
    file = tmp_path / "run" / "rollouts" / "step_00020.parquet"
    seen = []

    class Upstream:
        def _compute_rollout_stats(self, experiences):
            return {}

        def ppo_train(self, global_steps):
            seen.append(file.exists())
            may_write.set()
            return {"policy_loss": 0.5}

        def save_logs_and_checkpoints(self, global_step, logs_dict=None, client_states=None):
            seen.append(file.exists())

    training = trainer_of(made, tmp_path / "run", Upstream)
    stats = training._compute_rollout_stats([])
    assert stats["ktae/key_token_frac"] >= 0 and made.batch is None
    assert training.ppo_train(19) == {"policy_loss": 0.5}
    training.save_logs_and_checkpoints(20, stats, {})
    assert seen == [False, True]


def test_a_run_that_stops_keeps_the_rollouts_of_its_last_step(made, tmp_path):
    class Upstream:
        def _compute_rollout_stats(self, experiences):
            return {}

        def ppo_train(self, global_steps):
            raise RuntimeError("the policy died")

        def fit(self, global_step=0):
            self._compute_rollout_stats([])
            self.ppo_train(19)

    training = trainer_of(made, tmp_path / "run", Upstream)
    with pytest.raises(RuntimeError, match="the policy died"):
        training.fit()
    assert pq.read_table(tmp_path / "run" / "rollouts" / "step_00020.parquet").num_rows == 32
