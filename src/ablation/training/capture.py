"""The training step captured as a CUDA graph, so that kernel launches do not limit a small network."""

import sys

import torch
from torch import Tensor, nn

from ablation.models.device import out_of_memory
from ablation.training.optimization import Optimizer
from ablation.training.step import Step

WARMUP_STEPS = 3  # before a capture, as torch.cuda.graph asks for


def captured_step(step: Step, model: nn.Module, optimizer: Optimizer, sums: Tensor) -> Step:
    """`step`, built by `eager_step` from the other arguments, captured as a CUDA graph per batch size and replayed.

    Its results equal the eager ones. Stays eager, with a note, if an operation cannot be captured; raises if the device
    is out of memory.
    """
    device = sums.device
    state = [*model.state_dict(keep_vars=True).values(), *optimizer.tensors(), sums]
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def capture(plan: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        static_plan, graph = plan.clone(), torch.cuda.CUDAGraph()
        current, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                warm_up(step, static_plan, state)
            with torch.cuda.graph(graph, stream=stream):
                step(static_plan)
        finally:
            torch.cuda.set_stream(current)  # a failed capture leaves its own stream current
            current.wait_stream(stream)
        return graph, static_plan

    capturable = True

    def replay(plan: Tensor) -> None:
        nonlocal capturable
        num_images = plan.shape[1]
        if capturable and num_images not in graphs:
            try:
                graphs[num_images] = capture(plan)
            except RuntimeError as error:
                capturable = False
                # The old state may still expect the capture to end, and earlier graphs would keep drawing from it.
                torch.cuda.synchronize(device)
                graphs.clear()
                generator = torch.cuda.default_generators[device.index]
                generator.graphsafe_set_state(generator.clone_state())
                cause = error.__context__ or error  # torch ends the capture on this error, which fails in turn
                if out_of_memory(cause):
                    raise cause from None
                reason = (str(cause) or repr(cause)).splitlines()[0]
                print(f"note: could not capture a CUDA graph, continuing without ({reason})", file=sys.stderr)
                del cause  # its frames keep the failed step's tensors alive
        if num_images not in graphs:
            return step(plan)
        graph, static_plan = graphs[num_images]
        static_plan.copy_(plan)
        graph.replay()

    return replay


def warm_up(step: Step, plan: Tensor, state: list[Tensor]) -> None:
    """Take a few steps, then restore in place what they changed.

    state: the tensors that a step changes: weights, buffers, optimizer state, sums.
    """
    before = [t.detach().clone() for t in state]
    try:
        with torch.random.fork_rng([plan.device] if plan.is_cuda else []):  # dropout draws from the generator
            for _ in range(WARMUP_STEPS):
                step(plan)
    finally:  # also if a step fails, since training then continues without a graph
        with torch.no_grad():
            for t, value in zip(state, before, strict=True):
                t.copy_(value)
