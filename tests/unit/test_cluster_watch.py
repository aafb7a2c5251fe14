"""A run whose nodes are gone is ended, not one whose nodes are there or come back."""

import sys
from types import SimpleNamespace

import pytest

from openrlhf_ktae.training import cluster


@pytest.mark.parametrize(
    ("gpus_left", "said"),
    [
        ([2, 2, 2], []),
        ([2, 1, 2, 1], []),
        ([2, 0, 0, 0], ["a Ray node died: of the 2 GPUs that the run needs 0 are left"]),
    ],
)
def test_a_node_that_stays_away_ends_the_run(monkeypatch, gpus_left, said):
    """``gpus_left``: what Ray counts, look by look; after the last it is not there any more."""
    left, clock, heard = list(gpus_left), [0.0], []
    ray = SimpleNamespace(is_initialized=lambda: bool(left), cluster_resources=lambda: {"GPU": left.pop(0)})
    monkeypatch.setitem(sys.modules, "ray", ray)
    passing = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _: clock.__setitem__(0, clock[0] + 15))
    monkeypatch.setattr(cluster, "time", passing)
    cluster.watch({"policy": 1, "vLLM": 1}, heard.append)
    assert heard == said
