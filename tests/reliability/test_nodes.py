"""A node of a Ray cluster dies in the middle of a run. On request (OPENRLHF_KTAE_LONG_TESTS=1): some minutes."""

import os
import time

import pytest
from ray_nodes import two_nodes
from tiny_run import TinyRuns, is_connected_to_ray, start, steps, wait_until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("OPENRLHF_KTAE_LONG_TESTS" not in os.environ, reason="on request: OPENRLHF_KTAE_LONG_TESTS=1"),
]


def begin(line, nodes):
    outside = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return start(line, outside | nodes.environment)


def test_a_node_that_dies_before_anything_has_a_place_is_noticed_by_the_run_itself(tmp_path):
    """OpenRLHF would wait for ever for the place, and Ray with it."""
    runs = TinyRuns(tmp_path, steps=1)
    with two_nodes(gpus=(1, 1), RAY_process_group_cleanup_enabled="1") as nodes:
        line, folder = runs.command("nodes", "algo.kl.init_coef=0", "run.cluster_wait_seconds=120")
        process = begin(line, nodes)
        wait_until(lambda: is_connected_to_ray(process, nodes.session), 200, process)
        time.sleep(1)
        nodes.kill_last()
        wait_until(lambda: folder.read()["restarts"], 120, process)
        nodes.join(1)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and steps(folder) == [1], output
        reasons = [restart["reason"] for restart in folder.read()["restarts"]]
        assert reasons == ["a Ray node died: of the 2 GPUs that the run needs 1 are left"]


def test_a_run_goes_on_with_a_node_that_replaces_a_dead_one_and_ends_clearly_without(tmp_path):
    runs = TinyRuns(tmp_path, steps=8)
    with two_nodes(gpus=(1, 1)) as nodes:
        line, folder = runs.command("nodes", "algo.kl.init_coef=0", "run.cluster_wait_seconds=60")
        process = begin(line, nodes)
        wait_until(lambda: steps(folder)[-1:] >= [2], 200, process)
        nodes.kill_last()
        wait_until(lambda: len(folder.read()["restarts"]) == 1, 120, process)
        nodes.join(1)
        before = steps(folder)[-1:]
        wait_until(lambda: steps(folder)[-1:] > before, 200, process)
        nodes.kill_last()
        output, _ = process.communicate(timeout=300)
        run = folder.read()
        assert process.returncode == 1 and run["status"] == "failed", output
        assert "GPUs: the run needs 2, the Ray cluster has 1" in run["reason"]
        nodes.join(1)
        process = begin([*line[: line.index("recipes/quickstart") + 1], "--resume", str(folder.path.resolve())], nodes)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and steps(folder) == list(range(1, 9)), output
