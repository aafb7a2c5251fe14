"""vLLM on CPU samples from the weights it was sent, the tied output embedding included.

Without the patch in cpu_vllm_worker.py an update of the embedding is silently ignored by the output layer: the
log-probabilities stay those of the old weights.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save
from openrlhf_ktae.training import cpu

pytestmark = [pytest.mark.ray, pytest.mark.skipif(torch.cuda.is_available(), reason="CPU only: a GPU needs no patch")]

TOKEN_IDS = [7, 11, 14, 12, 9, 18, 23, 24, 30]

# Runs in a process of its own: vLLM reads its environment when it is imported.
SCRIPT = """
import json, sys, torch
from openrlhf_ktae.training import cpu
cpu.install()  # as Ray's hook does before vLLM starts
from vllm import LLM, SamplingParams, TokensPrompt

def shift_embedding(worker):
    name = "model.embed_tokens.weight"
    weight = dict(worker.model_runner.model.named_parameters())[name].data.clone()
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    worker.model_runner.model.load_weights([(name, weight + 0.2 * noise.to(weight.dtype))])

def log_probs(llm):
    parameters = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    output = llm.generate([TokensPrompt(prompt_token_ids=%(ids)s)], parameters, use_tqdm=False)[0]
    return [next(iter(entry.values())).logprob for entry in output.prompt_logprobs[1:]]

if __name__ == "__main__":
    llm = LLM(model=sys.argv[1], dtype="bfloat16", enforce_eager=True, max_model_len=64,
              enable_prefix_caching=False, **cpu.ENGINE,
              worker_extension_cls="openrlhf_ktae.training.cpu_vllm_worker.CpuWorker")
    before = log_probs(llm)
    llm.collective_rpc(shift_embedding)
    print("RESULT", json.dumps([before, log_probs(llm)]))
"""


def reference(model) -> torch.Tensor:
    token_ids = torch.tensor([TOKEN_IDS])
    with torch.no_grad():
        log_probs = model(token_ids).logits.float().log_softmax(-1)
    return log_probs[0, :-1].gather(-1, token_ids[0, 1:, None])[:, 0]


def test_a_changed_tied_embedding_changes_vllms_log_probabilities(tmp_path):
    save(make_model(3), make_tokenizer(), tmp_path / "model")
    script = tmp_path / "ask_vllm.py"
    script.write_text(SCRIPT % {"ids": TOKEN_IDS})
    environment = os.environ | cpu.ENVIRONMENT | {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "model")],
        env=environment, capture_output=True, text=True, timeout=300, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    assert line, done.stdout + done.stderr
    before, after = (torch.tensor(values) for values in json.loads(line.removeprefix("RESULT ")))

    # In float32 on weights in bfloat16: how vLLM rounds on the way, a processor's own, is what is left.
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16).float()
    assert (before - reference(model)).abs().max() < 0.05
    weight = model.get_input_embeddings().weight.data
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    weight.copy_(weight.bfloat16() + 0.2 * noise.bfloat16())
    expected = reference(model)
    assert (expected - before).abs().max() > 2  # the change is large, so stale weights would show
    assert (after - expected).abs().max() < 0.2
