"""Every class of another package that a run replaces, in one list, each with the upstream line that looks it up.

What a machine without a GPU or without flash-attn needs is in `cpu` and `attention`; nothing else of a run assigns to
another package.
"""

import functools
import importlib
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError

from openrlhf_ktae.run_folder import RunFolder
from openrlhf_ktae.training.failures import explain
from openrlhf_ktae.training.options import TrainingOptions

Process = Literal["launcher", "coordinator", "trainer", "policy", "reference"]


@dataclass(frozen=True)
class Override:
    """``module.name`` is replaced by ``ours`` in one kind of process of a run."""

    process: Process
    module: str
    name: str
    ours: str
    """``module:name``; what can be called gets the keyword argument ``options`` beside upstream's arguments."""
    upstream: str
    """Where the module's package (OpenRLHF 0.11.2, torch 2.13) looks the name up."""
    is_actor: bool = False
    """Whether upstream's is a ``ray.remote`` class."""


_OURS = "openrlhf_ktae.training"

OVERRIDES = (
    # The launcher: `train()` imports its trainers late, and everything else from these modules when it is run.
    Override("launcher", "openrlhf.trainer.ppo_trainer", "PPOTrainer", f"{_OURS}.trainer:Trainer",
             "cli/train_ppo_ray.py:148", is_actor=True),
    Override("launcher", "openrlhf.trainer.ppo_trainer_async", "PPOTrainerAsync", f"{_OURS}.async_trainer:AsyncTrainer",
             "cli/train_ppo_ray.py:146", is_actor=True),
    Override("launcher", "openrlhf.trainer.ray.vllm_engine", "RolloutRayActor", f"{_OURS}.rollout_actor:RolloutActor",
             "trainer/ray/vllm_engine.py:301", is_actor=True),
    Override("launcher", "openrlhf.trainer.ray.ppo_actor", "PolicyModelActor", f"{_OURS}.policy_actor:PolicyActor",
             "cli/train_ppo_ray.py:14", is_actor=True),
    Override("launcher", "openrlhf.utils.deepspeed", "DeepspeedStrategy", f"{_OURS}.strategy:Strategy",
             "utils/utils.py:26"),
    Override("launcher", "openrlhf.trainer.ray.launcher", "ReferenceModelActor",
             f"{_OURS}.reference_actor:ReferenceActor", "cli/train_ppo_ray.py:11", is_actor=True),
    # The asynchronous coordinator finds its two actors by name in its module.
    Override("coordinator", "openrlhf.trainer.ppo_trainer_async", "GenerateSamplesActor",
             f"{_OURS}.async_trainer:AsyncGenerator", "trainer/ppo_trainer_async.py:304", is_actor=True),
    Override("coordinator", "openrlhf.trainer.ppo_trainer_async", "TrainingActor",
             f"{_OURS}.async_trainer:AsyncTraining", "trainer/ppo_trainer_async.py:314", is_actor=True),
    Override("trainer", "openrlhf.trainer.ppo_trainer", "RemoteExperienceMaker",
             f"{_OURS}.experience_maker:ExperienceMaker", "trainer/ppo_trainer.py:178"),
    Override("trainer", "openrlhf.trainer.ppo_trainer", "SamplesGenerator",
             f"{_OURS}.samples_generator:Generator", "trainer/ppo_trainer.py:481"),
    Override("trainer", "openrlhf.trainer.ppo_trainer_async", "SamplesGenerator",
             f"{_OURS}.samples_generator:Generator", "trainer/ppo_trainer_async.py:58"),
    Override("trainer", "openrlhf.trainer.ppo_trainer", "balance_experiences",
             f"{_OURS}.minibatches:random_minibatches", "trainer/ppo_trainer.py:231"),
    Override("policy", "openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer", f"{_OURS}.policy_actor:PolicyTrainer",
             "trainer/ray/ppo_actor.py:585"),
    Override("policy", "openrlhf.trainer.ray.ppo_actor", "DataLoader", f"{_OURS}.length_sorted:length_sorted_loader",
             "trainer/ray/ppo_actor.py:163"),
    Override("policy", "openrlhf.trainer.ray.ppo_actor", "socket", f"{_OURS}.ports:HELD_PORTS",
             "trainer/ray/ppo_actor.py:119"),
    # Of torch, and looked up in it; every process group of these two is made after their constructors.
    *(Override(process, "torch.distributed.rendezvous", "TCPStore", f"{_OURS}.ports:store_on_its_address",
               "distributed/rendezvous.py:199") for process in ("policy", "reference")),
)  # fmt: skip


def install(process: Process, options: TrainingOptions) -> None:
    """Puts ours in the places of `OVERRIDES` that belong to this kind of process."""
    for override in OVERRIDES:
        if override.process == process:
            module, _, name = override.ours.partition(":")
            ours = getattr(importlib.import_module(module), name)
            if override.is_actor:
                ours = OverriddenActor(ours, options)
            elif callable(ours):
                ours = functools.partial(ours, options=options)
            setattr(importlib.import_module(override.module), override.name, ours)


def plain_class(actor_class: Any) -> Any:
    """The class under ``@ray.remote``: the decorated one cannot be subclassed."""
    return actor_class.__ray_metadata__.modified_class


class OverriddenActor:
    """Stands where OpenRLHF expects a ``ray.remote`` class, and adds our options to its constructor."""

    def __init__(self, plain_class: type, options: TrainingOptions) -> None:
        self._actor = ray.remote(plain_class)
        self._options = options

    def options(self, **options: Any) -> "OverriddenActor":
        """As ray's ``ActorClass.options``."""
        copy = object.__new__(OverriddenActor)
        copy._actor, copy._options = self._actor.options(**options), self._options
        return copy

    def remote(self, *args: Any, **kwargs: Any):
        """As ray's ``ActorClass.remote``."""
        handle = self._actor.remote(*args, **kwargs, options=self._options)
        threading.Thread(target=_end_if_it_fails_to_start, args=(handle, self._options), daemon=True).start()
        return handle


def _end_if_it_fails_to_start(handle: Any, options: TrainingOptions) -> None:
    """Ends this process if an actor cannot be constructed.

    OpenRLHF does not look at its vLLM engines before it uses them: the policy would wait for a dead one for ever.
    """
    try:
        ray.get(handle.__ray_ready__.remote())
    except RayActorError as error:
        RunFolder(options.run_dir).write_failure(explain(error))
        print(f"RuntimeError: an actor failed to start: {error}", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
