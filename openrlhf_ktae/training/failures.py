"""Why training ended, in one sentence, from the exception that reached the launcher."""

import re

from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError

from openrlhf_ktae.files import disk_full
from openrlhf_ktae.run_folder import ENGINE_DIED, Failure

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ROLES = {
    "PolicyModelActor": "the policy's process",
    "ReferenceModelActor": "the reference model's process",
    "CriticModelActor": "the critic's process",
    "RewardModelActor": "the reward model's process",
    "RolloutRayActor": "a vLLM engine",
    "PPOTrainer": "the trainer's process",
    "PPOTrainerAsync": "the trainer's process",
    "TrainingActor": "the trainer's process",
    "GenerateSamplesActor": "the sample generator's process",
}
"""Ends of class names as Ray reports them, and what a person calls them.

Ray names an actor of ours after the class of OpenRLHF's that it is a subclass of.
"""


_LONGEST = 160
"""Characters of another package's message; the whole of it stands in the traceback above."""


def explain(error: BaseException) -> Failure:
    """One sentence without its full stop, and whether another attempt may get further.

    Mistakes in what was given (``ValueError``) and a full disk do not pass by themselves; dead processes may.
    """
    error = _innermost(error)
    text = _COLOUR.sub("", str(error)).strip()
    if isinstance(error, ActorDiedError | NodeDiedError):
        return Failure(_who_died(text), may_pass=True)
    if isinstance(error, ActorUnavailableError):
        return Failure("an actor's process died", may_pass=True)
    if isinstance(error, OutOfMemoryError):
        return Failure("Ray ended a process because the machine was out of memory", may_pass=True)
    if isinstance(error, OSError) and (reason := disk_full(error)):
        return Failure(reason, may_pass=False)
    if type(error).__name__ == "EngineDeadError":
        return Failure(ENGINE_DIED, may_pass=True)
    # Where gloo notices that a connection ended, in words that differ with the moment (closed by peer, read error ...).
    if isinstance(error, RuntimeError) and "gloo/transport/tcp/pair.cc" in text and "timeout" not in text:
        return Failure("a process that this one exchanged weights or tensors with died", may_pass=True)
    if isinstance(error, ValueError):
        return Failure(text, may_pass=False)
    return Failure(f"{type(error).__name__}: {_first_line(text)}", may_pass=True)


def _innermost(error: BaseException) -> BaseException:
    """The exception that a Ray task died of, through any number of tasks that waited for it."""
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    return error


def _who_died(text: str) -> str:
    name = re.search(r"class_name: (\w+)", text)
    pid = re.search(r"pid: (\d+)", text)
    role = next((role for end, role in _ROLES.items() if name and name[1].endswith(end)), "an actor")
    if "raised in its creation task" in text:
        return f"{role} could not start: {text.splitlines()[-1].strip()}"
    killed = "; it was killed, or the machine was out of memory" if "SIGKILL" in text or "exit code 137" in text else ""
    return f"{role}{f' (pid {pid[1]})' if pid else ''} died{killed}"


def _first_line(text: str) -> str:
    first = text.splitlines()[0] if text else "no message"
    return first if len(first) <= _LONGEST else f"{first[:_LONGEST]} ..."
