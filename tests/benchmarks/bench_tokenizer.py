"""What one copy of a tokenizer costs: OpenRLHF sends one with every prompt, this project one to every engine, once.

The vocabulary is made here and has the size of Qwen2.5's. Start it with --help.
"""

import pickle
import random
import statistics
import time
from typing import Annotated

import cloudpickle
import typer
from rich.console import Console
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast


def made_up_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of ``size`` tokens; each after the first 256 merges two earlier ones."""
    rng = random.Random(0)
    tokens = [chr(256 + i) for i in range(256)]
    known, merges = set(tokens), []
    while len(tokens) < size:
        pair = rng.choice(tokens), rng.choice(tokens)
        merged = "".join(pair)
        if merged not in known and len(merged) <= 12:
            known.add(merged)
            tokens.append(merged)
            merges.append(pair)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, merges)))


def main(
    vocabulary: Annotated[int, typer.Option(help="Tokens.")] = 151_643,
    prompts: Annotated[int, typer.Option(help="Prompts of a step.")] = 128,
    repeats: Annotated[int, typer.Option(help="Copies to time; the median counts.")] = 5,
) -> None:
    """Times writing and reading copies as Ray does it, and what a step's worth of them adds up to."""
    tokenizer = made_up_tokenizer(vocabulary)
    written, read = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        copy = cloudpickle.dumps(tokenizer)
        middle = time.perf_counter()
        pickle.loads(copy)
        written.append(middle - start)
        read.append(time.perf_counter() - middle)
    write, load = statistics.median(written), statistics.median(read)
    console = Console()
    console.print(f"one copy, {len(copy) / 1e6:.1f} MB: {write:.2f} s to write, {load:.2f} s to read")
    console.print(f"{prompts} prompts: {prompts * write:.0f} s in the trainer, {prompts * load:.0f} s over all engines")


if __name__ == "__main__":
    typer.run(main)
