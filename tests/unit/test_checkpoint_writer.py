"""What is removed for a new checkpoint, room on the disk, and random states."""

import errno
import random

import numpy as np
import pytest
import torch

from openrlhf_ktae.checkpoints import PART
from openrlhf_ktae.training import checkpoint_writer


def make(folder, *tags, size=100):
    for tag in tags:
        (folder / tag).mkdir()
        (folder / tag / "model.pt").write_bytes(bytes(size))


def removed(folder, newest, max_num=3, max_bytes=10**9, metrics=None):
    named = {str(folder / tag): value for tag, value in (metrics or {}).items()}
    return [path.name for path in checkpoint_writer.superfluous(folder, newest, max_num, max_bytes, named.get)]


def test_the_oldest_go_and_the_newest_stays(tmp_path):
    make(tmp_path, *(f"global_step{step}" for step in (2, 4, 10, 12)), "best_global_step3")
    assert removed(tmp_path, "global_step12") == ["global_step2"]
    assert removed(tmp_path, "global_step12", max_num=1) == ["global_step2", "global_step4", "global_step10"]


def test_without_a_metric_first_then_the_worst(tmp_path):
    make(tmp_path, *(f"global_step{step}" for step in (2, 4, 6, 8)))
    metrics = {"global_step2": 0.9, "global_step4": 0.1, "global_step8": 0.0}
    assert removed(tmp_path, "global_step8", max_num=2, metrics=metrics) == ["global_step6", "global_step4"]


def test_a_new_best_one_replaces_the_old_best_one_alone(tmp_path):
    make(tmp_path, "best_global_step2", "best_global_step4", "global_step4")
    assert removed(tmp_path, "best_global_step4", max_num=1) == ["best_global_step2"]


def test_no_more_bytes_than_allowed_but_never_without_the_newest(tmp_path):
    make(tmp_path, *(f"global_step{step}" for step in (2, 4, 6)), size=100)
    assert removed(tmp_path, "global_step6", max_bytes=250) == ["global_step2"]
    assert removed(tmp_path, "global_step6", max_bytes=1) == ["global_step2", "global_step4"]


def test_a_damaged_one_of_the_same_name_makes_way(tmp_path):
    make(tmp_path, "global_step4", f"global_step4{PART}")
    (tmp_path / f"global_step4{PART}" / "new").touch()
    checkpoint_writer.take_its_name(tmp_path / f"global_step4{PART}")
    assert [path.name for path in tmp_path.iterdir()] == ["global_step4"]
    assert (tmp_path / "global_step4" / "new").exists()


def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path):
    with pytest.raises(OSError, match=r"a checkpoint needs 1,000,000,000,000,000,000 bytes, [\d,]+ are free") as caught:
        checkpoint_writer.require_room(tmp_path, 10**18)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path)


def test_random_states_come_back():
    def draw():
        return random.random(), float(np.random.random()), torch.rand(1).item()

    states = checkpoint_writer.random_states()
    first = draw()
    assert draw() != first
    checkpoint_writer.restore_random_states(states)
    assert draw() == first
