"""The time of an epoch, and how many seeds shared it."""

import time

import pytest
import torch

from ablation.training.clock import Clock, epoch_clock

CPU = torch.device("cpu")


def test_seeds_that_share_the_time_have_equal_parts_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    assert clock.concurrent_seeds == 1
    clock.share(2)
    assert clock.concurrent_seeds == 2
    start, now = clock(), 110.0
    assert clock() - start == 5
    clock.share(1)
    now = 113.0
    assert clock() - start == 8
    assert clock.concurrent_seeds == 1


def test_time_until_the_sharers_change_is_shared_among_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    clock.share(4)
    now = 108.0
    clock.share(1)
    now = 110.0
    assert clock() == 8 / 4 + 2


def test_a_seed_on_one_thread_is_timed_by_its_own_work() -> None:
    clock, wall = epoch_clock(CPU, 1, at_a_time=2), time.perf_counter()
    start = clock()
    time.sleep(0.2)  # as while other seeds have the core
    assert clock() - start < 0.1 < time.perf_counter() - wall
    assert clock.concurrent_seeds == 1


@pytest.mark.parametrize(("device", "num_threads"), [("cpu", 2), ("mps", 1)])
def test_any_other_is_timed_by_the_wall_clock_beside_as_many_seeds_as_there_are(device: str, num_threads: int) -> None:
    clock = epoch_clock(torch.device(device), num_threads, at_a_time=3)
    start = clock()
    time.sleep(0.1)
    assert clock() - start >= 0.1
    assert clock.concurrent_seeds == 3
