"""Running cells: here, or in a few processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from palate.errors import ConfigError, PalateError
from palate.evaluate.cells import Job, run_cell
from palate.progress import Progress, silent

__all__ = ["run_jobs"]


def run_jobs(
    jobs: Iterable[Job], folder: Path, *, workers: int = 1, progress: Progress = silent
) -> Iterator[dict[str, Any]]:
    """The cells of the jobs, as they are finished; each is on disk before it is yielded.

    Args:
        jobs: taken one by one, so that at most a few exams are in memory.
        folder: where cells go.
        workers: processes; 1 computes in this one. Several share the cores evenly.
        progress: passed to the methods when computing here.

    Raises:
        ConfigError: `workers` is below one.
        PalateError: a worker was killed, or none could start.
    """
    if workers < 1:
        raise ConfigError(f"workers={workers}: there must be at least one")
    if workers == 1:
        for job in jobs:
            yield run_cell(job, folder, progress)
        return
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads, started))
    try:
        yield from _run_in(pool, jobs, folder, workers, progress)
    except BrokenProcessPool:
        raise PalateError(_why_broken(workers, started.is_set())) from None
    except RuntimeError as error:
        if "bootstrapping" not in str(error):
            raise
        # This is a worker that runs the caller's script again, for want of a guard; the caller is told, not each worker.
        raise SystemExit(1) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_in(
    pool: ProcessPoolExecutor, jobs: Iterable[Job], folder: Path, workers: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """The cells as the pool finishes them, with no more jobs handed out than there are workers."""
    waiting: set[Future[dict[str, Any]]] = set()
    for job in jobs:
        if job.dataset is not None:  # a model on texts holds connections that stay in this process
            yield run_cell(job, folder, progress)
            continue
        waiting.add(pool.submit(run_cell, job, folder))
        if len(waiting) >= workers:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    for future in waiting:
        yield future.result()


def _why_broken(workers: int, started: bool) -> str:
    if started:
        return (
            f"workers={workers}: one of them was killed, out of memory perhaps; finished cells are kept, run again with "
            "fewer workers"
        )
    return (
        f'workers={workers}: none could start; in a script, put the call under `if __name__ == "__main__":`, or use '
        "workers=1"
    )


def _begin(threads: int, started: Event) -> None:
    """In a worker: say that it runs, and keep its linear algebra to its part of the cores."""
    import torch
    from threadpoolctl import threadpool_limits

    started.set()
    threadpool_limits(threads)
    torch.set_num_threads(threads)
