import torch

from ablation.training.randomness import PURPOSES, derive, epoch_plan


def test_every_purpose_seed_and_epoch_has_a_stream_of_its_own() -> None:
    drawn = {derive(seed, purpose, epoch) for seed in range(20) for purpose in PURPOSES for epoch in range(20)}
    assert len(drawn) == 20 * len(PURPOSES) * 20


def test_known_values_do_not_change() -> None:
    assert derive(0, "initialization") == 2635072618980576772
    assert derive(1, "order", 3) == 5328538752027105901


def test_plan_visits_every_image_once_and_depends_on_seed_and_epoch_alone() -> None:
    plan = epoch_plan(2, 5, 1000)
    torch.manual_seed(123)  # the global generator has no part in it
    assert torch.equal(plan, epoch_plan(2, 5, 1000))
    assert plan[1].sort().values.tolist() == list(range(1000))
    assert not torch.equal(plan, epoch_plan(2, 6, 1000))
    assert not torch.equal(plan, epoch_plan(3, 5, 1000))
    assert plan[0].max() == 1 and plan[2:].min() == 0 and plan[2:].max() == 8
