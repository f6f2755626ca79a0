"""Numbers of things in words."""

import pandas as pd


def counted(number: int, thing: str) -> str:
    """`number` and the word `thing`, plural unless `number` is 1."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def seeds_per_variant(runs: pd.DataFrame) -> str:
    """How many seeds each variant has, in words."""
    numbers = runs.groupby("variant")["seed"].size()
    least, most = numbers.min(), numbers.max()
    return "one seed" if most == 1 else f"{most} seeds" if least == most else f"{least} to {most} seeds"


def max_seeds(runs: pd.DataFrame) -> int:
    """How many seeds the variant with the most of them has."""
    return int(runs.groupby("variant")["seed"].size().max())
