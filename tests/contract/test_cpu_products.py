"""Products of bfloat16 on processors without instructions for them; a process of its own for each test."""

import os
import subprocess
import sys

import pytest

from openrlhf_ktae.training import cpu_products

PRODUCTS = """
import time
import torch
from torch.nn.functional import linear

from openrlhf_ktae.training import cpu_products

torch.set_num_threads(1)
torch.manual_seed(0)
x, w, bias = torch.randn(4, 256, 128), torch.randn(96, 128), torch.randn(96)
products = {
    "linear": lambda t: linear(t(x), t(w)),
    "linear with a bias": lambda t: linear(t(x), t(w), t(bias)),
    "matmul": lambda t: t(x)[0] @ t(w).T,
    "bmm": lambda t: torch.bmm(t(x), t(x).transpose(1, 2)),
    "addmm": lambda t: torch.addmm(t(bias), t(x)[0], t(w).T, beta=0.5, alpha=2.0),
    "baddbmm": lambda t: torch.baddbmm(t(x)[:, :, :1], t(x), t(x).transpose(1, 2), beta=0.25, alpha=0.5),
}

def gradients(t):
    factors = [t(one).clone().requires_grad_() for one in (x, w, bias)]
    linear(*factors).backward(t(torch.ones(4, 256, 96) / 64))
    return [one.grad for one in factors]

def seconds(repeats=5):
    a, b = x.repeat(4, 1, 1).bfloat16(), w.bfloat16()
    start = time.process_time()
    for _ in range(repeats):
        linear(a, b)
    return time.process_time() - start

def as_bfloat16(one):
    return one.bfloat16()

def exact(one):
    return one.bfloat16().double()

def close(found, expected):
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-4)

single = {name: product(lambda one: one) for name, product in products.items()}
"""

IN_FLOAT32 = (
    PRODUCTS
    + """
cpu_products.in_float32()
for name, product in products.items():
    close(product(as_bfloat16), product(exact))
    assert torch.equal(product(lambda one: one), single[name]), name  # float32 stays what it is
for found, expected in zip(gradients(as_bfloat16), gradients(exact), strict=True):
    close(found, expected)
with torch.inference_mode():
    close(products["linear"](as_bfloat16), products["linear"](exact))
"""
)

INSTALLED = (
    PRODUCTS
    + """
seconds(1)
before = seconds()
cpu_products.install()
seconds(1)
print(cpu_products.onednn_takes_bfloat16(), before / seconds())
"""
)


def _run(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # PyTorch would warn of what is replaced
    return done


def test_they_are_the_products_in_float32_rounded_once():
    _run(IN_FLOAT32)


def test_they_are_put_in_place_only_where_the_processor_needs_them():
    supported, ratio = _run(INSTALLED).stdout.split()
    if supported == "True":
        assert float(ratio) < 3  # nothing was put in place
    else:
        assert float(ratio) > 3  # CPUBlas.cpp's own loops before; seen: 8 to 30


@pytest.mark.parametrize("module", ["openrlhf_ktae.training.cpu", "openrlhf_ktae.training.cpu_vllm_worker"])
def test_both_processes_that_compute_put_them_in_place(module):
    code = f"""
from openrlhf_ktae.training import cpu_products
cpu_products.onednn_takes_bfloat16 = lambda: False
import {module} as module
if hasattr(module, "install"):
    module.install()
assert cpu_products.is_installed()
"""
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_processor_with_instructions_keeps_its_own(monkeypatch):
    monkeypatch.setattr(cpu_products, "onednn_takes_bfloat16", lambda: True)
    monkeypatch.setattr(cpu_products, "in_float32", lambda: pytest.fail("replaced"))
    cpu_products.install()
