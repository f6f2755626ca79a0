"""The seeds of one variant concurrently on a GPU: in one process, each on a stream of its own."""

import gc
import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from ablation.models.device import out_of_memory
from ablation.training.clock import Clock

# With two more per seed, on which it captures its graphs, and one for gradients, fewer than the 32 streams after which
# PyTorch hands out the same ones again: graphs of two seeds captured on one stream would share its cuBLAS workspace.
MAX_AT_A_TIME = 8
STEPS_A_TURN = 8  # so that switching streams costs little compared with launching the steps


Train = Callable[[Clock, int], Iterator[None]]


def run_on_streams(train: Train, seeds: Sequence[int], device: torch.device) -> None:
    """Exhaust `train(clock, seed)`, which yields after each step that it has launched, for every seed.

    If the device's memory does not hold several seeds, `train` is called again for one after the other, and has to
    resume from what it has saved.
    """
    num_groups = math.ceil(len(seeds) / MAX_AT_A_TIME)
    groups = deque(seeds[i::num_groups] for i in range(num_groups))
    while groups:
        group, clock = groups.popleft(), Clock()
        try:
            take_turns([(train(clock, seed), SeedStream(device)) for seed in group], clock)
        except RuntimeError as error:
            if len(group) == 1 or not out_of_memory(error):
                raise
            print(f"note: out of GPU memory with {len(group)} seeds side by side; one after the other", file=sys.stderr)
            groups.extendleft([seed] for seed in reversed(group))
        if groups and len(groups[0]) == 1:  # now that the error no longer keeps tensors alive
            gc.collect()
            torch.cuda.empty_cache()


def take_turns(runs: Sequence[tuple[Iterator[None], AbstractContextManager[None]]], clock: Clock) -> None:
    """A few steps of each run in turn, each in its context, until all have finished."""
    waiting = deque(runs)
    while waiting:
        clock.share(len(waiting))
        run, context = waiting.popleft()
        with context:
            num_steps = sum(1 for _ in itertools.islice(run, STEPS_A_TURN))
        if num_steps == STEPS_A_TURN:
            waiting.append((run, context))


class SeedStream(AbstractContextManager[None]):
    """A stream of the GPU and a state of its random generator, both current within the context.

    A graph reads the state that was current at its capture. So a seed draws what it would draw alone, whatever other
    seeds have drawn.
    """

    def __init__(self, device: torch.device) -> None:
        self._generator = torch.cuda.default_generators[device.index]
        self._state = self._generator.clone_state()
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))  # on which the data was made
        self._outside = self._generator.graphsafe_get_state(), torch.cuda.current_stream(device)

    def __enter__(self) -> None:
        self._generator.graphsafe_set_state(self._state)
        torch.cuda.set_stream(self._stream)

    def __exit__(self, *_: object) -> None:
        self._state = self._generator.graphsafe_get_state()  # a new one where a capture failed
        state, stream = self._outside
        self._generator.graphsafe_set_state(state)
        torch.cuda.set_stream(stream)
