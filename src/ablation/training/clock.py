"""The time that a seed's epochs take."""

import time
from collections.abc import Callable

import torch


class Clock:
    """Seconds from any start, in equal parts for the seeds that share the time.

    concurrent_seeds: how many train at the time (on a CPU, at most), where that changes the seconds; recorded, since
    only speeds measured alike are comparable.
    """

    def __init__(self, source: Callable[[], float] | None = None, concurrent_seeds: int = 1) -> None:
        """source: the seconds that it reads; the wall clock, if None."""
        self.concurrent_seeds = concurrent_seeds
        self._source = source or time.perf_counter
        self._seconds, self._since, self._sharers = 0.0, self._source(), 1

    def __call__(self) -> float:
        now = self._source()
        self._seconds += (now - self._since) / self._sharers
        self._since = now
        return self._seconds

    def share(self, sharers: int) -> None:
        """Divide the time among so many seeds from now on."""
        self()
        self._sharers = self.concurrent_seeds = sharers


def epoch_clock(device: torch.device, num_threads: int, at_a_time: int) -> Clock:
    """The clock of each of `at_a_time` seeds: wall-clock time or, on a single CPU thread, the CPU time of the process.

    The latter does not depend on how many seeds share the cores, nor on what else the machine is doing.
    """
    return Clock(time.process_time) if device.type == "cpu" and num_threads == 1 else Clock(concurrent_seeds=at_a_time)
