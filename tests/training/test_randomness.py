import itertools

import torch

from ablation.data.augmentation import SHIFT_ALTERNATING_FLIP
from ablation.training.randomness import PURPOSES, derive, epoch_plan


def test_every_purpose_seed_and_epoch_has_a_stream_of_its_own() -> None:
    drawn = {derive(seed, purpose, epoch) for seed in range(20) for purpose in PURPOSES for epoch in range(20)}
    assert len(drawn) == 20 * len(PURPOSES) * 20


def test_known_values_do_not_change() -> None:
    assert derive(0, "initialization") == 2635072618980576772
    assert derive(1, "order", 3) == 5328538752027105901
    found = derive(0, "augmentation", 2), derive(0, "dropout", 2), derive(0, "flip")
    assert found == (15397273280626856827, 7695460988150002522, 9489810283428522141)
    plan = epoch_plan(0, 1, 1000)
    assert plan[:, :4].tolist() == [[1, 1, 0, 0], [600, 994, 354, 302], [3, 7, 6, 4], [1, 6, 5, 1]]


def test_plan_visits_every_image_once_and_depends_on_seed_and_epoch_alone() -> None:
    plan = epoch_plan(2, 5, 1000)
    torch.manual_seed(123)  # the global generator has no part in it
    assert torch.equal(plan, epoch_plan(2, 5, 1000))
    assert plan[1].sort().values.tolist() == list(range(1000))
    assert not torch.equal(plan, epoch_plan(2, 6, 1000))
    assert not torch.equal(plan, epoch_plan(3, 5, 1000))
    assert plan[0].max() == 1 and plan[2:].min() == 0 and plan[2:].max() == 8


def test_an_alternating_flip_turns_every_image_in_every_epoch() -> None:
    flips = []
    for epoch in range(1, 7):
        flip, index, *offsets = epoch_plan(4, epoch, 10_000, SHIFT_ALTERNATING_FLIP)
        flips.append(torch.empty_like(flip).scatter_(0, index, flip))  # by image, whatever the order
        assert torch.equal(index, epoch_plan(4, epoch, 10_000)[1]), "the order is that of any augmentation"
        assert torch.stack(offsets).unique().tolist() == [0, 1, 2, 3, 4]
    assert all(torch.equal(later, 1 - earlier) for earlier, later in itertools.pairwise(flips))
    assert abs(flips[0].float().mean().item() - 0.5) < 0.025  # five standard deviations of 10,000 coins
    other = epoch_plan(5, 1, 10_000, SHIFT_ALTERNATING_FLIP)
    other_flips = torch.empty_like(other[0]).scatter_(0, other[1], other[0])
    assert abs((flips[0] == other_flips).float().mean().item() - 0.5) < 0.025, "another seed has other coins"
    assert torch.equal(epoch_plan(4, 6, 10_000, SHIFT_ALTERNATING_FLIP)[0], flip), "whatever was drawn before"
