"""Seconds and memory of every advantage term on one batch, beside one pass that reads and writes the advantages.

python tests/benchmarks/bench_terms.py                      # the paper's batch: 1,024 prompts x 16 rollouts
python tests/benchmarks/bench_terms.py --prompts 64
"""

import argparse
import statistics
import time

import torch

from openrlhf_ktae.advantage.batch import RolloutBatch
from openrlhf_ktae.advantage.segments import Trace, segments_of
from openrlhf_ktae.advantage.term import TERM, apply_terms
from openrlhf_ktae.advantage.terms import TERMS
from openrlhf_ktae.plugins import loaded


def batch(prompts: int, samples: int, length: int) -> RolloutBatch:
    """Random rollouts of a mean length of half of ``length``, token ids by Zipf's law."""
    generator = torch.Generator().manual_seed(0)
    rows = prompts * samples
    shape = (rows, length)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
    token_ids = (1 / torch.rand(shape, generator=generator).clamp(1e-5)).int() + 2
    halves = [((1, 1 + n // 2), (1 + n // 2, 1 + n)) for n in lengths.flatten().tolist()]
    traces = [Trace(bounds, (1.0, 0.0), (0.5, 0.5), row % samples * 4 // samples) for row, bounds in enumerate(halves)]
    return RolloutBatch(
        token_ids=token_ids,
        mask=torch.arange(length) < lengths,
        group=torch.arange(rows) // samples,
        rewards=torch.randint(0, 2, (rows,), generator=generator).float(),
        scores=torch.randint(0, 2, (rows,), generator=generator).float(),
        log_probs=-torch.rand(shape, generator=generator),
        entropies=torch.rand(shape, generator=generator),
        segments=segments_of(traces, length),
        info={"group_id": torch.randint(0, 2, (rows,), generator=generator).float()},
        special_token_ids=(0, 1),
    )


def main() -> None:
    """Prints a line a term: the median of some runs, one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1024, help="prompts of the batch (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=16, help="rollouts a prompt (default: %(default)s)")
    parser.add_argument("--length", type=int, default=1600, help="longest response (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = batch(options.prompts, options.samples, options.length)
    advantages = torch.randn(made.mask.shape)
    print(f"{int(made.mask.sum()) / 1e6:.1f} M response tokens in a batch of {tuple(made.mask.shape)}, one thread")
    sources = {"one pass (advantages * 2)": None} | {name: name for name in TERMS}
    for label, name in sources.items():
        seconds = []
        for _ in range(options.runs + 1):
            start = time.perf_counter()
            _ = advantages * 2 if name is None else apply_terms(loaded(TERM, [name], {}), made, advantages)
            seconds.append(time.perf_counter() - start)
        print(f"{label:28} {statistics.median(seconds[1:]):7.3f} s")  # the first run compiles and warms up


if __name__ == "__main__":
    main()
