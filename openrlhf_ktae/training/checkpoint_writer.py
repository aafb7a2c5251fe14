"""Writes checkpoints that are whole or absent, and brings the random states back with them.

OpenRLHF deletes old checkpoints first and then writes the new one under its final name
(utils/deepspeed/deepspeed.py:700-752): killed in between, a run has a damaged newest one and may have no other.
"""

import errno
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from openrlhf.utils.distributed_util import torch_dist_barrier_and_cuda_sync as barrier

from openrlhf_ktae.checkpoints import PART, Checkpoint, list_checkpoints, point_latest_at, write_manifest
from openrlhf_ktae.run_folder import now

_OPTIMIZER_BYTES = 12
"""Of a parameter in mixed-precision Adam: a copy of the weight and two moments in float32."""


def save(
    strategy: Any,
    engine: Any,
    save_dir: str,
    tag: str,
    max_num: int,
    max_mem: int,
    client_state: dict[str, Any],
    metric: tuple[float | None, str | None],
) -> None:
    """Stands in for ``DeepspeedStrategy.save_ckpt``, called by every rank; ``metric``: value and name.

    Raises:
        OSError: the disk has no room for it; nothing that was there before is touched.
    """
    folder, part = Path(save_dir), Path(save_dir) / f"{tag}{PART}"
    if strategy.is_rank_0():
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"*{PART}"):
            shutil.rmtree(stale)
        require_room(folder, _bytes_needed(engine, folder))
    barrier()
    try:
        engine.save_checkpoint(save_dir, tag=part.name, client_state=client_state, save_latest=False)
        torch.save(random_states(), part / _random_file(strategy.get_rank()))
    except (RuntimeError, OSError) as error:
        _raise_if_full(error, folder, part)
        raise
    barrier()
    if strategy.is_rank_0():
        strategy._write_ckpt_metric(part, *metric)
        write_manifest(part, step=Checkpoint(folder / tag).step, written_at=now())
        take_its_name(part)
        point_latest_at(folder / tag)
        for old in superfluous(folder, tag, max_num, max_mem * 1024**3, strategy._read_ckpt_metric):
            shutil.rmtree(old)
    barrier()


def take_its_name(part: Path) -> None:
    """Renames ``TAG.part`` to ``TAG``; an old folder of that name (of a damaged checkpoint) goes first."""
    final = part.with_name(part.name.removesuffix(PART))
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)


def superfluous(folder: Path, newest: str, max_num: int, max_bytes: int, metric_of: Any) -> list[Path]:
    """What OpenRLHF would have removed to make room for ``newest``, in its order.

    Best ones before the newest best; of the others, those without a metric first, then the worst, then the oldest.
    The newest is never among them.
    """
    there = [checkpoint for checkpoint in list_checkpoints(folder) if checkpoint.tag != newest]
    is_best = newest.startswith("best")
    remove = [checkpoint for checkpoint in there if checkpoint.is_best and is_best]
    regular = [checkpoint for checkpoint in there if not checkpoint.is_best]

    def worth(checkpoint: Checkpoint) -> tuple[bool, float, int]:
        metric = metric_of(str(checkpoint.path))
        return metric is not None, metric if metric is not None else float("-inf"), checkpoint.step

    regular.sort(key=worth)
    kept_number = max_num if is_best else max_num - 1
    too_many = max(0, len(regular) - kept_number)
    remove += regular[:too_many]
    total = sum(checkpoint.size for checkpoint in list_checkpoints(folder) if checkpoint not in remove)
    for checkpoint in regular[too_many:]:
        if total <= max_bytes:
            break
        total -= checkpoint.size
        remove.append(checkpoint)
    return [checkpoint.path for checkpoint in remove]


def require_room(folder: Path, needed: int) -> None:
    """Refuses to start writing what will not fit.

    Raises:
        OSError: ENOSPC, with the bytes needed and free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"a checkpoint needs {needed:,} bytes, {free:,} are free", str(folder))


def _bytes_needed(engine: Any, folder: Path) -> int:
    before = list_checkpoints(folder)
    if before:
        return before[-1].size
    # ds_numel: under ZeRO-3 a parameter is empty between its uses.
    return sum(getattr(p, "ds_numel", p.numel()) * (p.element_size() + _OPTIMIZER_BYTES) for p in engine.parameters())


def _raise_if_full(error: Exception, folder: Path, part: Path) -> None:
    """PyTorch's writer says RuntimeError where the disk is full; what it wrote goes, and makes room again."""
    free = shutil.disk_usage(folder).free
    is_full = getattr(error, "errno", None) == errno.ENOSPC or "file write failed" in str(error) or free < 2**20
    if is_full:
        shutil.rmtree(part, ignore_errors=True)
        raise OSError(errno.ENOSPC, f"no room while a checkpoint was written, {free:,} bytes were free", str(folder))


def random_states() -> dict[str, Any]:
    """States of every generator that training draws from in this process."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_states(states: dict[str, Any]) -> None:
    """Puts back what `random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def restore_from(path: str, rank: int) -> None:
    """Puts back the random states that a rank saved with a checkpoint, where it has them."""
    file = Path(path).parent / _random_file(rank) if Path(path).is_file() else Path(path) / _random_file(rank)
    if file.is_file():
        restore_random_states(torch.load(file, weights_only=False))


def _random_file(rank: int) -> str:
    return f"random_states_rank{rank}.pt"
