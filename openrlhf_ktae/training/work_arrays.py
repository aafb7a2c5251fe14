"""The (N, T) arrays of a step, in memory that the next step finds again.

The first touch of memory costs more than the copying: at the paper's batch that would be a gigabyte of pages a step.
"""

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_ktae.advantage.estimator.cpu_kernel import jit


class WorkArrays:
    """Lends zeroed arrays, and takes one back when nobody refers to it or to a tensor of it any more.

    As many are kept as are lent at the same time: one step's, and another one's that the rollout log is still writing.
    """

    def __init__(self) -> None:
        self._held: list[_Held] = []

    def zeros(self, lengths: NDArray[np.int64], columns: int, dtype: Any) -> NDArray[Any]:
        """(N, columns) zeros, to be written at the first ``lengths[row]`` positions of each row and nowhere else."""
        size = len(lengths) * columns
        fitting = [held for held in self._held if held.is_free() and held.fits(size, dtype)]
        held = fitting[0] if fitting else _Held(np.zeros(size, dtype=dtype))
        if not fitting:
            self._held.append(held)
        return held.lend(lengths, columns)

    def drop_free(self) -> None:
        """Gives the memory back that this step did not need."""
        self._held = [held for held in self._held if not held.is_free()]


class _Held:
    def __init__(self, memory: NDArray[Any]) -> None:
        self._memory = memory
        self._lent: weakref.ref[NDArray[Any]] | None = None
        self._lengths, self._columns = np.zeros(0, dtype=np.int64), 0

    def is_free(self) -> bool:
        return self._lent is None or self._lent() is None

    def fits(self, size: int, dtype: Any) -> bool:
        return self._memory.dtype == dtype and len(self._memory) >= size

    def lend(self, lengths: NDArray[np.int64], columns: int) -> NDArray[Any]:
        _clear(self._memory, self._lengths, self._columns)
        self._lengths, self._columns = lengths, columns
        lent = self._memory[: len(lengths) * columns].reshape(len(lengths), columns)
        self._lent = weakref.ref(lent)
        return lent


@jit
def _clear(memory: Any, lengths: Any, columns: Any) -> None:
    for row in range(len(lengths)):
        memory[row * columns : row * columns + lengths[row]] = 0
