"""Dynamic batches: an update is the sum of all its micro batches' gradients, under every stage of ZeRO."""

import os
import subprocess
import sys
from pathlib import Path

import openrlhf_parts  # stands in for CUDA where there is none, so that OpenRLHF can be imported
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def norms() -> dict[tuple[str, int], tuple[float, float, float]]:
    """Gradient norm of an update of three micro batches, what it is for all of them, and for the last alone."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
    command = [sys.executable, "-m", "gradient_sums"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("norms ")]
    return {(name, int(stage)): (float(a), float(b), float(c)) for name, stage, a, b, c in lines}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_update_is_the_sum_of_its_micro_batches(norms, stage):
    step, everything, last = norms["Strategy", stage]
    assert abs(step - everything) < 0.02 * everything  # bfloat16
    assert abs(last - everything) > 0.2 * everything


def test_upstream_steps_with_the_last_micro_batch_alone(norms):
    """The reason for `training.strategy`; it can go when this fails."""
    step, everything, last = norms["DeepspeedStrategy", 2]
    assert abs(step - last) < 0.02 * last and abs(step - everything) > 0.2 * everything


def test_openrlhf_makes_its_strategy_and_balances_from_names_that_we_replace(monkeypatch):
    import inspect

    import openrlhf.utils.deepspeed as strategies
    from openrlhf.trainer import ppo_trainer
    from openrlhf.utils import get_strategy

    from openrlhf_ktae.training import overrides
    from openrlhf_ktae.training.strategy import Strategy

    replaced = {(one.module, one.name): one.ours for one in overrides.OVERRIDES}
    assert replaced["openrlhf.utils.deepspeed", "DeepspeedStrategy"].endswith("strategy:Strategy")
    assert replaced["openrlhf.trainer.ppo_trainer", "balance_experiences"].endswith("minibatches:random_minibatches")
    assert "balance_experiences(experiences, self.args)" in inspect.getsource(ppo_trainer.BasePPOTrainer.train_step)
    monkeypatch.setattr(strategies, "DeepspeedStrategy", Strategy)
    made = {dynamic: openrlhf_parts.arguments(train__dynamic_batch_enable=dynamic) for dynamic in (True, False)}
    configs = {dynamic: get_strategy(args).get_ds_train_config() for dynamic, args in made.items()}
    assert configs[True]["managed_gradient_accumulation"] is False
    assert "managed_gradient_accumulation" not in configs[False]  # DeepSpeed counts the micro batches itself
