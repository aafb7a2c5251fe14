"""A real run that learns nonsense stops by itself, with its last good checkpoint."""

import math

import pyarrow.parquet as pq
import pytest
from tiny_run import TinyRuns, start, steps

from openrlhf_ktae.checkpoints import checkpoint_folder, list_checkpoints

pytestmark = pytest.mark.ray

LOSS = """
from openrlhf_ktae.losses.loss import LossResult, PolicyLoss


class Loss(PolicyLoss):
    calls = 0

    def loss(self, inputs):
        self.calls += 1
        scale = 1.0 if self.calls <= 8 else float("nan")
        return LossResult(inputs.token_mean(-inputs.log_probs * inputs.advantages) * scale, {})
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Two runs, at once: by name the exit code, what was said, and the folder."""
    runs = TinyRuns(tmp_path_factory.mktemp("tiny"), steps=8)
    loss, warm = runs.folder / "nan_loss.py", runs.folder / "warm"
    loss.write_text(LOSS)
    model = (f"arithmetic.directory={warm}", f"actor.model_name_or_path={warm}/model", "arithmetic.warmup_steps=40")
    changes = ("actor.adam.lr=1.0e+4", "run.collapse_steps=3", "ckpt.max_num=2", "algo.kl.init_coef=0")
    started = {
        name: (start(line), folder)
        for name, (line, folder) in {
            "infinite": runs.command("infinite", f"policy_loss.name={loss}", "algo.kl.init_coef=0"),
            "collapsed": runs.command("collapsed", *model, *changes),
        }.items()
    }
    said = {name: " ".join(process.communicate(timeout=400)[0].split()) for name, (process, _) in started.items()}
    return {name: (process.returncode, said[name], folder) for name, (process, folder) in started.items()}


def test_weights_that_are_not_finite_never_reach_vllm(ended):
    """From the third step on (four micro-batches each) the loss is NaN, and with it gradient and weights."""
    code, said, folder = ended["infinite"]
    run = folder.read()
    assert code == 1 and run["status"] == "failed" and run["restarts"] == [], said
    failed = len(steps(folder)) + 1
    assert failed > 1 and f"step {failed}:" in run["reason"]
    assert "finite; stopped before the weights went to vLLM" in run["reason"]
    rows = pq.read_table(folder.rollouts / f"step_{failed:05d}.parquet").to_pylist()
    assert len(rows) == 32 and all(math.isfinite(number) for row in rows for number in row["log_prob"])
    kept = list_checkpoints(checkpoint_folder(folder))
    assert kept[-1].step == failed - 1 and all(checkpoint.problem() is None for checkpoint in kept)


def test_a_collapsed_run_stops_and_keeps_the_checkpoint_from_before(ended):
    """A learning rate of 1e4 makes noise of a model that knew at least which characters stand in an answer."""
    code, said, folder = ended["collapsed"]
    run = folder.read()
    assert code == 1 and run["status"] == "failed", said
    assert "collapsed for 3 steps: entropy is" in run["reason"] and "near its maximum" in run["reason"]
    assert "WARNING: the run has looked collapsed for 3 steps in a row" in said
    suspicious = [line["step"] for line in folder.metrics() if line.get("rollout/collapsed_steps")]
    assert len(suspicious) == 3
    kept = list_checkpoints(checkpoint_folder(folder))
    assert kept[-1].step == suspicious[0] - 1 and all(checkpoint.problem() is None for checkpoint in kept)
