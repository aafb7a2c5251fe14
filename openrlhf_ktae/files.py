"""Files that a reader sees whole or not at all, and files that one process holds."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch file beside ``path`` to write to; it takes the place of ``path`` in one step when the block ends well.

    A reader sees the old content or the new, never half of it. An error leaves ``path`` as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def disk_full(error: OSError) -> str | None:
    """What a full disk is reported as, with the path where it was noticed; None for any other error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = f": {error.filename}" if error.filename else ""
    return f"the disk is full{where} ({error.strerror}); make room, then resume"


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a JSON file in one step. NaN is refused: JSON has none."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


_ENDS_BYTES = 2**20


def fingerprint(folder: Path, pattern: str) -> str | None:
    """Twelve hexadecimal digits that differ where the folder's files do; None where none matches ``pattern``.

    Of each file its name, its size and a MiB of either end count: files of gigabytes take no longer than small ones.
    """
    digest = hashlib.sha256()
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ENDS_BYTES))
            file.seek(max(_ENDS_BYTES, size - _ENDS_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:12] if files else None


def take_lock(path: Path) -> int | None:
    """A file descriptor that locks ``path`` for as long as a process has it open; None if another one does.

    Where the file system knows no locks it keeps nobody away.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return descriptor


def open_lines(path: Path) -> IO[bytes]:
    """A file of lines, to read and to append to, that nobody else writes to until it is closed.

    A last line that was cut off, as when its writer was killed, is taken out.

    Raises:
        ValueError: another process has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = take_lock(path)
    if descriptor is None:
        raise ValueError(f"{path}: another process is writing there; wait for it or name another --output")
    file = os.fdopen(descriptor, "r+b")
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0)
    return file
