"""What a person reads about an exception that ended training, and whether another attempt makes sense."""

import errno

import pytest
from ray.exceptions import RayTaskError

from openrlhf_ktae.training.failures import explain
from openrlhf_ktae.training.guards import Diverged


def through_ray(error, times=2):
    for _ in range(times):
        error = RayTaskError("fit", "\x1b[36mray::fit()\x1b[39m\nTraceback ...", error).as_instanceof_cause()
    return error


@pytest.mark.parametrize("wrap", [lambda error: error, through_ray])
@pytest.mark.parametrize(
    ("error", "reason", "may_pass"),
    [
        (ValueError("scores: found 0.5"), "scores: found 0.5", False),
        (Diverged("step 3: kl is not finite"), "step 3: kl is not finite", False),
        (RuntimeError("first line\nsecond"), "RuntimeError: first line", True),
        (RuntimeError("long " * 100), f"RuntimeError: {'long ' * 32} ...", True),
        (
            RuntimeError("[/w/gloo/transport/tcp/pair.cc:1] Application timeout caused pair closure"),
            "RuntimeError: [/w/gloo/transport/tcp/pair.cc:1] Application timeout caused pair closure",
            True,
        ),
        (
            RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:2706. GLHF!"),
            "a process that this one exchanged weights or tensors with died",
            True,
        ),
        (
            RuntimeError("[/w/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:36780: Connection reset. Oh"),
            "a process that this one exchanged weights or tensors with died",
            True,
        ),
        (
            OSError(errno.ENOSPC, "a checkpoint needs 9 bytes, 3 are free", "/data"),
            "the disk is full: /data (a checkpoint needs 9 bytes, 3 are free); make room, then resume",
            False,
        ),
    ],
)
def test_the_reason_is_the_innermost_errors(wrap, error, reason, may_pass):
    failure = explain(wrap(error))
    assert (failure.reason, failure.may_pass) == (reason, may_pass)
