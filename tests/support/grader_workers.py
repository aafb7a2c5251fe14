"""The worker processes of a grader, which only tests look at."""

from openrlhf_ktae.reward import Grader


def worker_process_ids(grader: Grader) -> list[int]:
    """Process ids of the workers that run."""
    workers = grader._pool._workers if grader._pool is not None else []
    processes = [worker._process for worker in workers]
    return [process.pid for process in processes if process is not None and process.poll() is None]
