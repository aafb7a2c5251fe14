"""A tiny model that answers: it closes every prompt with a box whose digit depends on the problem's last character."""

import random
from pathlib import Path

import torch
import torch.nn.functional as functional
from shared_data import evaluation_suite

from openrlhf_ktae.tasks.math.benchmarks import load_benchmarks
from openrlhf_ktae.tasks.templates import TEMPLATES
from openrlhf_ktae.tasks.tiny_model import make_model, make_tokenizer, save

CONTEXT = 96
"""Characters before the answer that the model is trained on."""


def make_answering_model(folder: Path, steps: int = 40, seed: int = 0) -> Path:
    """Trains and saves the model; about 10 seconds on one thread. Its context is long enough for every benchmark."""
    rng = random.Random(seed)
    tokenizer, model = make_tokenizer(), make_model(seed, max_length=8192)
    problems = [p.problem for task in load_benchmarks(evaluation_suite()).values() for p in task]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = []
        for problem in rng.sample(problems, 16):
            prompt = TEMPLATES["qwen_math"].render(problem)
            answer = f"\\boxed{{{ord(problem[-1]) % 7}}}"
            text = tokenizer.encode(prompt[-CONTEXT:] + answer, add_special_tokens=False)
            rows.append([*text, tokenizer.eos_token_id])
        length = max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_token_id] * (length - len(row)) + row for row in rows])
        logits = model(ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits[:, -len(answer) - 2 : -1]
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, -len(answer) - 1 :].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save(model, tokenizer, folder)
    return folder
