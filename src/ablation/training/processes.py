"""The seeds of one variant in parallel processes on the cores of a CPU."""

import ctypes
import io
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import wait

from ablation.common.errors import InvalidInput, in_one_line

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def num_processes(num_seeds: int, num_threads: int) -> int:
    """How many seeds to train at a time on this CPU: one per core, if the seeds divide evenly among the cores.

    Otherwise up to two per core, in about equal rounds: of three seeds on two cores, the third alone would leave a
    core idle. The threads of a seed wait for one another and share cores badly: with several threads, one seed per
    `num_threads` cores. One where fork is unsafe.
    """
    if sys.platform != "linux":
        return 1
    cores = len(os.sched_getaffinity(0))
    if num_threads > 1:
        return max(1, min(num_seeds, cores // num_threads))
    if num_seeds % cores == 0:
        return cores
    rounds = math.ceil(num_seeds / (2 * cores))
    return math.ceil(num_seeds / rounds)


def run_in_processes(train: Callable[[int], object], seeds: list[int], at_a_time: int) -> None:
    """Call `train(seed)` for every seed, in forked processes when more than one runs at a time.

    This process must not have started threads before (a forked thread pool hangs). The children end with it, however
    it ends. When one fails, the others are killed and this process ends too.
    """
    if at_a_time == 1:
        for seed in seeds:
            train(seed)
        return
    context = multiprocessing.get_context("fork")
    waiting = list(seeds)
    running: dict[int, tuple[int, multiprocessing.process.BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                seed = waiting.pop(0)
                process = context.Process(target=_child, args=(train, seed, os.getpid()))
                process.start()
                running[process.sentinel] = seed, process
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                seed, ended = running.pop(sentinel)
                ended.join()
                _check(seed, ended.exitcode)
    finally:
        for _, left in running.values():
            left.kill()
            left.join()


def _child(train: Callable[[int], object], seed: int, parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    for stream in (sys.stdout, sys.stderr):  # with PYTHONUNBUFFERED print writes a line and its end separately
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    in_one_line(lambda: train(seed))


def _check(seed: int, exit_code: int | None) -> None:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        why = ", possibly out of memory" if name == "SIGKILL" else ""
        raise InvalidInput(f"the process of seed {seed} was killed by {name}{why}")
    if exit_code:
        sys.exit(exit_code)  # the child has printed why
