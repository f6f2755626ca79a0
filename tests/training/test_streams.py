from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from ablation.training import streams
from ablation.training.backend import prepare
from ablation.training.batches import load_data
from ablation.training.clock import Clock
from ablation.training.loop import new_run, train_epochs
from ablation.training.streams import SeedStream, run_on_streams, take_turns

CPU = torch.device("cpu")


class OwnGenerator(AbstractContextManager):
    """What SeedStream does for a GPU's random generator, for the CPU's."""

    def __init__(self) -> None:
        self.state = torch.get_rng_state()

    def __enter__(self) -> None:
        torch.set_rng_state(self.state)

    def __exit__(self, *_: object) -> None:
        self.state = torch.get_rng_state()


def weights_of(runs) -> list[list[torch.Tensor]]:
    return [[t.cpu() for t in (*run.model.state_dict().values(), *run.best_weights.values())] for run in runs]


def equal(some: list[list[torch.Tensor]], others: list[list[torch.Tensor]]) -> bool:
    return all(torch.equal(*pair) for both in zip(some, others, strict=True) for pair in zip(*both, strict=True))


@pytest.mark.parametrize("variant", ["dropout", "adam", "simple_nn_bn", "speedrun"])
def test_seeds_that_take_turns_get_the_bits_of_seeds_alone(
    variant, variant_params, train_split, val_split, normalization
) -> None:
    params = variant_params(variant, batch_size=8)  # 13 steps an epoch, no multiple of the steps in a turn
    data = load_data(train_split, val_split, normalization, params, CPU)
    results = []
    for together in (False, True):
        runs = [new_run(params, seed, data) for seed in range(3)]
        steps = [train_epochs(run, params, seed, data, Clock()) for seed, run in enumerate(runs)]
        groups = [steps] if together else [[one] for one in steps]
        for group in groups:
            take_turns([(one, OwnGenerator()) for one in group], Clock())
        assert [len(run.epochs) for run in runs] == [2, 2, 2]
        results.append(weights_of(runs))
    assert equal(*results)


def test_turns_without_a_generator_of_ones_own_would_change_dropout(
    variant_params, train_split, val_split, normalization
) -> None:
    """The test of the test above."""
    params = variant_params("dropout", batch_size=8)
    data = load_data(train_split, val_split, normalization, params, CPU)
    results = []
    for context in (OwnGenerator, nullcontext):
        runs = [new_run(params, seed, data) for seed in range(3)]
        steps = [train_epochs(run, params, seed, data, Clock()) for seed, run in enumerate(runs)]
        take_turns([(one, context()) for one in steps], Clock())
        results.append(weights_of(runs))
    assert not equal(*results)


def test_runs_of_any_length_come_to_their_end_in_turns() -> None:
    order = []

    def run(name: str, num_steps: int):
        for _ in range(num_steps):
            order.append(name)
            yield
        order.append(name + " ends")

    take_turns([(run("a", 17), nullcontext()), (run("b", 8), nullcontext()), (run("c", 3), nullcontext())], Clock())
    assert order == ["a"] * 8 + ["b"] * 8 + ["c"] * 3 + ["c ends"] + ["a"] * 8 + ["b ends", "a", "a ends"]


def test_seeds_beyond_the_streams_wait_for_the_others(monkeypatch) -> None:
    alive, most, ended = set(), [], []

    def train(clock: Clock, seed: int):
        alive.add(seed)
        for _ in range(20):
            most.append(len(alive))
            yield
        alive.remove(seed)
        ended.append(seed)

    monkeypatch.setattr(streams, "SeedStream", lambda device: nullcontext())
    run_on_streams(train, list(range(17)), CPU)
    assert sorted(ended) == list(range(17))
    assert max(most) == 6  # 17 seeds in three groups


class Generator:
    """A random generator whose state is a name."""

    state = "of all"

    def graphsafe_get_state(self) -> str:
        return self.state

    def graphsafe_set_state(self, state: str) -> None:
        self.state = state

    def clone_state(self) -> str:
        return "of seed"


class Stream:
    def __init__(self, device: torch.device) -> None:
        self.waits_for = None

    def wait_stream(self, other: object) -> None:
        self.waits_for = other


def test_a_seed_has_its_stream_and_state_while_it_is_its_turn(monkeypatch) -> None:
    generator, device = Generator(), torch.device("cuda:1")
    current = ["of all"]
    monkeypatch.setattr(torch.cuda, "default_generators", (None, generator))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))
    seed = SeedStream(device)
    with seed:
        stream = current[0]
        assert isinstance(stream, Stream) and stream.waits_for == "of all"  # where the data were made
        assert generator.state == "of seed"
        generator.state = "after a failed capture"
    assert (current[0], generator.state) == ("of all", "of all")
    with seed:
        assert (current[0], generator.state) == (stream, "after a failed capture")


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["simple_nn_bn_swish", "dropout", "adam", "resnet20", "speedrun"])
def test_seeds_on_streams_get_the_bits_of_seeds_alone(
    variant, variant_params, train_split, val_split, normalization, capsys
) -> None:
    """Each has two graphs, of the full and of the last, smaller batch. The generator is left as it was."""
    params = variant_params(variant, device="cuda", epochs=4)
    device = prepare(params, 100)
    data = load_data(train_split, val_split, normalization, params, device)
    torch.manual_seed(5)
    before = torch.cuda.get_rng_state(device)
    results = []
    for groups in ([[0], [1], [2]], [[0, 1, 2]]):
        runs = {}

        def train(clock: Clock, seed: int, runs=runs):
            runs[seed] = new_run(params, seed, data)
            yield from train_epochs(runs[seed], params, seed, data, clock)

        for group in groups:
            run_on_streams(train, group, device)
        results.append(weights_of([runs[seed] for seed in range(3)]))
    assert equal(*results)
    assert not equal(results[0][:1], results[0][1:2])
    assert torch.equal(torch.cuda.get_rng_state(device), before)
    assert "could not capture" not in capsys.readouterr().err


@pytest.mark.parametrize("words", ["CUDA out of memory", "a kernel's own mistake"])
def test_seeds_that_do_not_fit_side_by_side_are_trained_one_after_the_other(words, monkeypatch, capsys) -> None:
    """Once nothing is left of those that ran concurrently; any other error ends them all."""
    monkeypatch.setattr(streams, "SeedStream", lambda device: nullcontext())
    calls, under_way, finished = [], set(), []

    def train(clock, seed):
        calls.append(seed)
        try:
            for _ in range(3 * streams.STEPS_A_TURN):
                under_way.add(seed)
                if len(under_way) == 3:
                    raise RuntimeError(words)
                yield
            finished.append(seed)
        finally:
            under_way.discard(seed)

    if "memory" in words:
        run_on_streams(train, [0, 1, 2], CPU)
        assert calls == [0, 1, 2, 0, 1, 2] and finished == [0, 1, 2]
        note = "note: out of GPU memory with 3 seeds side by side; one after the other\n"
        assert capsys.readouterr().err == note
    else:
        with pytest.raises(RuntimeError, match=words):
            run_on_streams(train, [0, 1, 2], CPU)
        assert calls == [0, 1, 2]
