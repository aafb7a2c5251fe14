"""What our trainers do around OpenRLHF's when a run goes on from a checkpoint; what passes between two actors."""

import json
from types import SimpleNamespace

import openrlhf_parts  # flash-attn's stand-in, before OpenRLHF is imported
import pytest

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.training import async_trainer, trainer


@pytest.fixture
def resumed(tmp_path, monkeypatch):
    """Makes a synchronous trainer whose run has these lines of metrics and goes on after ``step``; and what it does."""

    def make(step, *lines, trains_to=None):
        did = []
        states = {"episode": 1, "global_step": step, "total_consumed_prompts": 8, "data_loader_state_dict": {"a": 1}}
        ours = object.__new__(trainer.Trainer)

        def fit(self, global_step):
            did.append("fit")
            self._step = trains_to or step

        monkeypatch.setattr(trainer._Sync, "init_checkpoint_states", lambda self: dict(states))
        monkeypatch.setattr(trainer._Sync, "restore_best_checkpoint_state", lambda self, states: did.append("restore"))
        monkeypatch.setattr(trainer._Sync, "broadcast_to_vllm", lambda self: did.append("broadcast"))
        best = lambda self, logs, step, states: did.append(("best", step, states["data_loader_state_dict"]))  # noqa: E731
        monkeypatch.setattr(trainer._Sync, "save_best_checkpoint", best)
        monkeypatch.setattr(trainer._Sync, "fit", fit)
        evaluate = lambda self, step, **_: did.append(("evaluate", step)) or {"eval_a_pass1": 0.5}  # noqa: E731
        monkeypatch.setattr(trainer.Trainer, "evaluate", evaluate)
        folder = RunFolder(tmp_path)
        described = [{"kind": kind, "step": number, "seconds": 1.0} for kind, number in lines]
        folder.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in described))
        ours.options, ours._folder, ours._metrics_log = openrlhf_parts.training_options(), folder, None
        ours.args = SimpleNamespace(eval=SimpleNamespace(steps=2, temperature=1.0, n_samples_per_prompt=1))
        ours.eval_dataloader, ours.generate_kwargs = ["problems"], {}
        ours.samples_generator, ours.tokenizer = SimpleNamespace(), range(100)
        ours._rollout_log = SimpleNamespace(finish=lambda: None)
        ours.experience_maker = SimpleNamespace(terms={}, kl_ctl=SimpleNamespace(value=0.1))
        ours.fit()
        return did, [(line["kind"], line["step"]) for line in folder.metrics()]

    return make


def test_an_evaluation_that_the_end_of_an_attempt_cut_off_is_made_up_for(resumed):
    did, lines = resumed(4, ("eval", 2), ("train", 3), ("train", 4), ("train", 5))
    assert did == ["restore", "broadcast", ("evaluate", 4), ("best", 4, {"a": 1}), "fit"]
    assert lines == [("eval", 2), ("train", 3), ("train", 4), ("eval", 4)]  # step 5 is trained again


def test_an_evaluation_that_was_done_is_not_repeated(resumed):
    did, lines = resumed(4, ("train", 4), ("eval", 4))
    assert did == ["fit"] and lines == [("train", 4), ("eval", 4)]
    assert resumed(3, ("train", 3))[0] == ["fit", ("evaluate", 3)]  # nothing left to train: the last evaluation is
    assert resumed(3, ("train", 3), ("eval", 3))[0] == ["fit"]


def test_a_fresh_run_is_evaluated_first_whatever_an_earlier_attempt_left(resumed):
    did, lines = resumed(0, ("eval", 0), ("train", 1), trains_to=2)
    assert did == [("evaluate", 0), "fit"] and lines == [("eval", 0)]


def test_how_many_prompts_failed_travels_with_the_rollouts(monkeypatch):
    sent, generator = [], SimpleNamespace(failed_prompts=3)
    ours = SimpleNamespace(put=lambda payload, block: sent.append(payload))
    queue = async_trainer.QueueWithFailures(ours, generator)
    for payload in (["rollouts"], {"episode": 1}, None, 2.0), ("eval", 4, {"eval_a_pass1": 1.0}), "done":
        queue.put(payload, block=True)
    assert sent[1:] == [("eval", 4, {"eval_a_pass1": 1.0}), "done"]
    states, logged = sent[0][1], []
    saves = lambda self, step, logs, states: logged.append((logs, dict(states)))  # noqa: E731
    monkeypatch.setattr(trainer.Training, "save_logs_and_checkpoints", saves)
    training = object.__new__(async_trainer.AsyncTraining)
    training.save_logs_and_checkpoints(1, {"kl": 0.0}, states)
    assert logged == [({"kl": 0.0, "rollout/failed_prompts": 3.0}, {"episode": 1})]
