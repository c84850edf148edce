"""Too little memory, or a library that does not load: told in words, before or after it went wrong.

In: the limits of this process, or an exception. Out: an FtdiagError that says what to do. Imports nothing
that may not load itself: this is where it is told that nothing loads any more.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

from ftdiag.errors import MEMORY_HINT, FtdiagError, is_of_memory

ANALYSIS_BYTES: Final = 192 << 20
"""Address space that reading a recording needs at least: half of it is the code of libraries."""
_THREADS_OF_BLAS: Final = "OPENBLAS_NUM_THREADS"


class TooLittleMemory(FtdiagError):
    """The system gives no more memory, threads or processes."""


class LibraryMissing(FtdiagError):
    """A module, or a shared object that it needs, cannot be loaded."""


def check_memory() -> None:
    """Raise TooLittleMemory where reading a recording could not work. Imports nothing."""
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit_bytes != resource.RLIM_INFINITY and limit_bytes < ANALYSIS_BYTES:
        raise TooLittleMemory(
            f"this process may use {limit_bytes >> 20} MiB of address space, and reading a recording needs"
            f" {ANALYSIS_BYTES >> 20} MiB at least",
            MEMORY_HINT,
        )


def prepare_analysis() -> None:
    """Load numpy with one thread for linear algebra. Raises TooLittleMemory where it could not work.

    Its library takes memory for each core of the machine before anything is computed, and ends the process by
    itself where that fails. The environment is put back: a program that is started must not inherit it.
    """
    check_memory()
    before = os.environ.get(_THREADS_OF_BLAS)
    os.environ[_THREADS_OF_BLAS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        if before is None:
            del os.environ[_THREADS_OF_BLAS]
        else:
            os.environ[_THREADS_OF_BLAS] = before


def in_words(error: BaseException) -> FtdiagError | None:
    """What is short, if the exception says so, itself or by what it came from; `None` for any other."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    if any(_is_of_memory(each) for each in chain):
        return TooLittleMemory("there is not enough memory for this", MEMORY_HINT)
    if any(isinstance(each, RuntimeError) and "start new thread" in str(each) for each in chain):
        return TooLittleMemory(
            "no thread could be started: too many processes and threads, or not enough memory",
            "ulimit -u; ulimit -v   show the limits; ps -eLf | wc -l   how many threads there are",
        )
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return TooLittleMemory(
            "no process could be started: too many processes and threads",
            "ulimit -u   shows the limit; ps -eLf | wc -l   how many threads there are",
        )
    if isinstance(error, ImportError):
        # The first of the chain says which library it was; those behind it wrap it in advice of their own.
        reason = str(chain[-1]).strip().partition("\n")[0]
        return LibraryMissing(
            f"a library that ftdiag needs cannot be loaded: {reason}",
            "pip install --force-reinstall ftdiag   installs it anew",
        )
    return None


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, ImportError | OSError) and is_of_memory(str(error))
