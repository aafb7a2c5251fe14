"""The gradients that DeepSpeed steps with, in a process of its own: ``python -m gradient_sums``.

Prints a line for each strategy and stage of ZeRO: the gradient norm of an update made of three ``backward`` calls, the
norm of their sum, and that of the last one.
"""

import os
import socket

import openrlhf_parts
import torch


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


os.environ |= {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": free_port(),
}

import deepspeed  # noqa: E402
from openrlhf.utils.deepspeed import DeepspeedStrategy  # noqa: E402

from openrlhf_ktae.training.strategy import Strategy  # noqa: E402


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 1, bias=False)).bfloat16()


def norm_of(batches) -> float:
    model = network()
    for batch in batches:
        model(batch).float().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).float().norm().item()


def show(strategy: type, stage: int) -> None:
    args = openrlhf_parts.arguments(ds__zero_stage=stage, ds__grad_accum_dtype="fp32", train__dynamic_batch_enable=True)
    adam = {"type": "AdamW", "params": {"lr": 0.0, "betas": [0.9, 0.999], "eps": 1e-8, "torch_adam": True}}
    config = strategy(zero_stage=stage, args=args, max_norm=0.0).get_ds_train_config(adam)
    # "auto" is filled in for Transformers' models only.
    config["zero_optimization"] = {k: v for k, v in config["zero_optimization"].items() if v != "auto"}
    model = network()
    engine = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=config)[0]
    batches = [torch.randn(4, 8).bfloat16() for _ in range(3)]
    for batch in batches:
        engine.backward(engine(batch).float().sum())
    engine.step()
    norm = float(engine.get_global_grad_norm())
    print("norms", strategy.__name__, stage, norm, norm_of(batches), norm_of(batches[-1:]), flush=True)


if __name__ == "__main__":
    deepspeed.init_distributed("gloo")
    for kind, stages in ((Strategy, (1, 2, 3)), (DeepspeedStrategy, (2,))):
        for zero_stage in stages:
            show(kind, zero_stage)
