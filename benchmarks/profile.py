"""What a training step spends its time on, operation by operation.

Usage: python -m benchmarks.profile ARGUMENTS, those of `step_profile` as JSON. Prints a JSON object.
"""

import json
import statistics
import sys
from collections import defaultdict

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ablation.training.loop import new_run
from ablation.training.randomness import epoch_plan
from ablation.training.step import eager_step
from benchmarks.worker import prepared

NUM_WINDOWS, WINDOW_STEPS, WARM_UP_STEPS = 8, 5, 20  # short windows: the profiler's own memory slows a long one


def step_profile(variant: str, splits: str, num_images: int, device: str, num_threads: int) -> dict[str, float]:
    """Operation -> self time in milliseconds of one eager step (on CUDA: of the GPU); medians over the windows."""
    params, data = prepared(variant, splits, num_images, device, num_threads=num_threads)
    torch.set_num_threads(num_threads)
    place = data.train_labels.device
    run, sums = new_run(params, 0, data), torch.zeros(3, device=place)
    step = eager_step(run.model, run.optimizer, params, data, sums)
    plan = epoch_plan(0, 1, num_images)[:, : params.batch_size].to(place)
    for _ in range(WARM_UP_STEPS):
        step(plan)
    on_cuda = place.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    windows: dict[str, list[float]] = defaultdict(list)
    for _ in range(NUM_WINDOWS):
        with profile(activities=activities) as profiler:
            for _ in range(WINDOW_STEPS):
                step(plan)
        for event in profiler.key_averages():
            if event.device_type == DeviceType.CPU:  # the operation: its kernels would count twice
                microseconds = event.self_device_time_total if on_cuda else event.self_cpu_time_total
                windows[event.key].append(microseconds / WINDOW_STEPS / 1000)
    return {name: statistics.median(times) for name, times in windows.items()}


if __name__ == "__main__":
    print(json.dumps(step_profile(**json.loads(sys.argv[1]))))
