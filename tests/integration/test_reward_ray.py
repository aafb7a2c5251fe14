"""The reward function where training calls it: in threads of an asyncio loop, inside a Ray actor."""

import json
from pathlib import Path

import pytest
import ray
from answer_pairs import PAIRS

from openrlhf_ktae.reward import math_reward

pytestmark = pytest.mark.ray

SHOWN = [pair for pair in PAIRS if pair[0]][::4]
HOSTILE = r"9^{9^{9^{9^9}}} + \int_0^x 1000000! dt"


@pytest.fixture
def ray_instance():
    # "local": never the cluster of another run on this machine.
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_verdicts_inside_an_asyncio_ray_actor_are_those_outside_of_it(ray_instance):
    # Defined here, so that Ray sends the class itself and not the name of a test module.
    class Engine:
        def __init__(self, path: str):
            import importlib.util

            # As OpenRLHF loads it (utils/agent.py, SingleTurnAgentExecutor.__init__).
            spec = importlib.util.spec_from_file_location("reward_func", path)
            self.module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self.module)

        async def rewards(self, rows):
            import asyncio

            prompt = "<|im_start|>user\nq<|im_end|>\n"
            calls = [
                asyncio.to_thread(
                    self.module.reward_func, [f"{prompt}so \\boxed{{{answer}}}<|im_end|>"], [prompt], [label]
                )
                for answer, label in rows
            ]
            results = await asyncio.wait_for(asyncio.gather(*calls), timeout=240)
            return [(r["scores"].tolist(), {k: v.tolist() for k, v in r["extra_logs"].items()}) for r in results]

        def close(self):
            import psutil

            self.module.grader().close()
            commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
            return [command for command in commands if "openrlhf_ktae.reward.worker" in command]

    options = {"env_vars": {"OPENRLHF_KTAE_REWARD": json.dumps({"deadline_seconds": 3.0})}}
    engine = ray.remote(Engine).options(num_cpus=1, runtime_env=options).remote(str(Path(math_reward.__file__)))
    rows = [(answer, json.dumps([gold])) for answer, gold, _, _ in SHOWN] + [(HOSTILE, "1"), ("12", "12")]
    results = ray.get(engine.rewards.remote(rows), timeout=300)
    wrong = [
        (answer, gold, scores)
        for (answer, gold, expected, _), (scores, _) in zip(SHOWN, results, strict=False)
        if scores != [float(expected)]
    ]
    assert wrong == []
    assert [scores for scores, _ in results[-2:]] == [[0.0], [1.0]]
    assert all(logs["formatted"] == [1.0] and logs["grader_error"] == [0.0] for _, logs in results[:-2])
    assert not any(logs["timed_out"][0] for _, logs in results[:-2])
    assert ray.get(engine.close.remote(), timeout=60) == []
