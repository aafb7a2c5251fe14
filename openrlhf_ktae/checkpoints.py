"""Checkpoints of a run on disk: which are there, whether each is whole, and which one to go on from.

A checkpoint is written into ``TAG.part`` and renamed when all of it is there, with a manifest of its files. So a folder
without ``.part`` is whole unless something harmed it later, and the manifest shows that.
"""

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_ktae.files import replacing, write_json
from openrlhf_ktae.run_folder import RunFolder

MANIFEST = "manifest.json"
PART = ".part"
"""End of the name of a folder that is still being written."""

_CHUNK = 2**24
_THREADS = 8


@dataclass(frozen=True)
class Checkpoint:
    """A folder that DeepSpeed can load: ``checkpoints/_actor/global_step20``."""

    path: Path

    @property
    def tag(self) -> str:
        """The folder's name, by which DeepSpeed knows it."""
        return self.path.name

    @property
    def step(self) -> int:
        """The step after which it was written."""
        return int(re.findall(r"\d+", self.tag)[-1])

    @property
    def is_best(self) -> bool:
        """Whether it was kept for its evaluation (``best_global_step20``)."""
        return self.tag.startswith("best")

    @property
    def has_manifest(self) -> bool:
        """False for checkpoints of versions before manifests."""
        return (self.path / MANIFEST).is_file()

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def problem(self, hashes: bool = True) -> str | None:
        """What is wrong with it, as the end of a sentence; None if it is whole.

        ``hashes``: reads every byte. Without, files and their sizes are compared.
        """
        if not self.has_manifest:
            latest = self.path.parent / "latest"
            # DeepSpeed writes `latest` after everything else.
            is_named = latest.is_file() and latest.read_text(encoding="utf-8").strip() == self.tag
            return None if is_named else f"has no {MANIFEST}, so nothing says that it is whole"
        try:
            files = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return f"has a {MANIFEST} that cannot be read"
        for name, said in files.items():
            path = self.path / name
            if not path.is_file():
                return f"lacks {name}"
            if path.stat().st_size != said["bytes"]:
                return f"has {path.stat().st_size} bytes of {name}, {said['bytes']} were written"
        if hashes:
            for name, digest in _hashes(self.path, list(files)).items():
                if digest != files[name]["sha256"]:
                    return f"has other bytes in {name} than were written"
        return None


def checkpoint_folder(run: RunFolder) -> Path | None:
    """Where a run's policy checkpoints are (trainer/ppo_trainer.py:434 looks in the same place)."""
    if not run.run_json.is_file():
        return None
    path = run.read()["config"]["openrlhf"].get("ckpt.path")
    return None if path is None else Path(path) / "_actor"


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, oldest step first; none that is still being written."""
    found = [
        path for path in folder.glob("*global_step*") if path.is_dir() and path.name.rpartition("step")[2].isdigit()
    ]
    return sorted((Checkpoint(path) for path in found), key=lambda checkpoint: (checkpoint.step, checkpoint.is_best))


def has_checkpoint(run: RunFolder) -> bool:
    """Whether a run has a whole checkpoint to go on from (files and sizes)."""
    folder = checkpoint_folder(run)
    return folder is not None and any(
        checkpoint.problem(hashes=False) is None for checkpoint in list_checkpoints(folder)
    )


def choose_checkpoint(run: RunFolder, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint, and makes ``latest`` name it; ``say`` gets a sentence for each damaged one."""
    folder = checkpoint_folder(run)
    for checkpoint in reversed(list_checkpoints(folder) if folder else []):
        problem = checkpoint.problem()
        if problem is None:
            point_latest_at(checkpoint.path)
            return checkpoint
        say(f"Skipped a damaged checkpoint: {checkpoint.path} {problem}.")
    return None


def write_manifest(path: Path, **facts: Any) -> None:
    """Notes every file below ``path`` with size and SHA-256, beside ``facts``."""
    names = [str(file.relative_to(path)) for file in sorted(path.rglob("*")) if file.is_file()]
    hashes = _hashes(path, names)
    files = {name: {"bytes": (path / name).stat().st_size, "sha256": hashes[name]} for name in names}
    write_json(path / MANIFEST, facts | {"files": files})


def point_latest_at(path: Path) -> None:
    """Makes DeepSpeed load this checkpoint: ``latest`` is replaced in one step."""
    with replacing(path.parent / "latest") as part:
        part.write_text(path.name, encoding="utf-8")


def _hashes(folder: Path, names: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: _sha256(folder / name), names), strict=True))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
