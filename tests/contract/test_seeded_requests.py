"""vLLM on CPU: requests with a seed whose prompts hold more tokens together than one forward pass takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

ROOT = Path(__file__).resolve().parents[2]
CUT_PROMPTS = """
import sys
from openrlhf_ktae import cpu_vllm
from openrlhf_ktae.generation import EngineOptions, Request, Sampling
from openrlhf_ktae.generation.engine import LocalBackend

if sys.argv[2] == "upstream":
    del cpu_vllm.ENGINE["enable_chunked_prefill"]
backend = LocalBackend(EngineOptions(
    model=sys.argv[1], tokenizer=sys.argv[1], revision=None, max_model_len=96, dtype="float32", seed=0,
    tensor_parallel=1, gpu_memory_utilization=0.5, max_num_seqs=None, kv_cache_mib=None,
), Sampling(temperature=1.0, top_p=1.0))
# 100 x 60 tokens; vLLM's forward pass takes 2,048 here.
requests = [Request(("t", str(i), 0), "", (5 + i % 7,) * 60, 8, i, ()) for i in range(100)]
print("finished", sum(len(samples) for samples in backend.generate(requests)))
"""


@pytest.mark.parametrize(
    ("setting", "said"), [("ours", "finished 100"), ("upstream", "CPU Generator does not use offset")]
)
def test_requests_with_a_seed_survive_more_prompts_than_a_forward_pass_takes(setting, said, tmp_path):
    save(make_model(0), make_tokenizer(), tmp_path / "model")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CUT_PROMPTS, str(tmp_path / "model"), setting]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert said in result.stdout + result.stderr
