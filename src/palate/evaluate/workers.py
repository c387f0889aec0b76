"""Running cells: here, or in a few processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from palate.errors import ConfigError
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
    """
    if workers < 1:
        raise ConfigError(f"workers={workers}: there must be at least one")
    if workers == 1:
        for job in jobs:
            yield run_cell(job, folder, progress)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_share_cores, initargs=(threads,)
    )
    try:
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
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _share_cores(threads: int) -> None:
    """Keep one worker's linear algebra to its part of the cores."""
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    torch.set_num_threads(threads)
