"""Which comparisons these runs can test, and with which seeds: data and settings must be those of the claim."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablation.analysis.metrics import METRICS
from ablation.analysis.params import ComparisonParams, NumberParams, ReportParams, SweepParams

# Settings in which a variant and its baseline may differ: they change results by rounding at most.
BESIDE_RESULTS = {"device", "num_threads", "deterministic", "compile", "checkpoint_every_epochs"}
BESIDE_SPEED = {"device", "num_threads", "checkpoint_every_epochs"}  # MEASURED_ON covers the first two
# What a speed depends on besides the variant, as far as it is recorded
MEASURED_ON = ["device", "num_threads", "concurrent_seeds", "precision"]
MEASURED_ON += ["torch", "cpu_capability", "gcc", "c++", "triton"]


def not_comparable(params: ReportParams, num_images: Mapping[str, int]) -> dict[str, str]:
    """The comparisons that these runs cannot test: name -> what differs.

    These are numbers reported for other data or settings, claims made for other settings, and variants that differ from
    their baseline in settings that the claim does not name, unless the metric is a count.
    num_images: split -> number of images.
    """
    reasons = {}
    for name, comparison in params.comparisons.items():
        claim, differing = comparison.claim, []
        claimed_for = claim.settings
        compared = [params.variants[v] for v in (comparison.variant, comparison.baseline) if v in params.variants]
        if isinstance(claim, NumberParams):
            claimed_for = _over(params.reported.settings, claim.settings)
            if params.label != params.reported.label:
                differing.append(f"{params.label}, not {params.reported.label}")
            sizes = ("train", "training", params.reported.train_size), ("val", "validation", params.reported.val_size)
            for split, word, size in sizes:
                if num_images[split] != size:
                    differing.append(f"{num_images[split]:,} {word} images, not {size:,}")
        for setting, value in claimed_for.items():
            wanted = value if isinstance(value, list) else [value] * len(compared)
            if len(compared) == len(wanted):
                differing += _unlike(setting, [settings[setting] for settings in compared], wanted)
        if len(compared) == 2 and not METRICS[comparison.metric].is_count:
            beside = BESIDE_SPEED if comparison.metric == "images_per_second" else BESIDE_RESULTS
            differing += [
                f"{path} {_told(value)} against {_told(other)}"
                for path, (value, other) in differences(*compared).items()
                if path not in beside and not _names(claimed_for, path)
            ]
        if differing:
            reasons[name] = "; ".join(differing)
    return reasons


def sweep_obstacle(sweep: SweepParams, variants: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why the sweep's variants among `variants` (name -> settings) do not form a sweep; None where they do."""
    settings = [variants[variant] for variant in sweep.variants if variant in variants]
    if len({one[sweep.setting] for one in settings}) < 2:
        return "fewer than two of its values are in the study"
    differing = {path: None for one in settings[1:] for path in differences(one, settings[0])}
    others = [path for path in differing if path not in {sweep.setting, *BESIDE_RESULTS}]
    return f"its variants differ in {' and '.join(others)} as well" if others else None


def differences(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ: dotted path -> the two values.

    Settings that only one side has are left out: another network or optimiser, whose name differs, brings them.
    """
    found = changes(others, settings)
    return {each["name"]: (each["value"], each["default"]) for each in found if {"default", "value"} <= set(each)}


def changes(defaults: Mapping[str, Any], values: Mapping[str, Any], path: str = "") -> list[dict[str, Any]]:
    """The settings in which nested `values` differ from `defaults`; a list is one setting.

    As [{"name": dotted path, "default": ..., "value": ...}], without `default` or `value` where there is none. A
    removed mapping is one setting as well: Hydra can delete it whole, but not a key of it that is null.
    """
    found: list[dict[str, Any]] = []
    for key in {**defaults, **values}:
        name = f"{path}.{key}".removeprefix(".")
        before, after = defaults.get(key), values.get(key)
        if key not in values:
            found.append({"name": name, "default": before})
        elif isinstance(after, dict) and after and (key not in defaults or (isinstance(before, dict) and before)):
            found += changes(before or {}, after, name)
        elif key not in defaults:
            found.append({"name": name, "value": after})
        elif before != after:
            found.append({"name": name, "default": before, "value": after})
    return found


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` overridden by `own`; where both have a mapping, key by key."""
    both = {
        key: {**base[key], **own[key]} for key in own if isinstance(base.get(key), dict) and isinstance(own[key], dict)
    }
    return {**base, **own, **both}


def _names(claimed_for: Mapping[str, Any], path: str) -> bool:
    """Whether a claim for these settings is about the one at the dotted `path`."""
    setting, _, key = path.partition(".")
    value = claimed_for.get(setting, {})
    both = value if isinstance(value, list) else [value]
    return any(not isinstance(each, dict) or key in each for each in both)


def _unlike(setting: str, values: list[Any], wanted: list[Any]) -> list[str]:
    """How a setting's `values`, variant's and baseline's, are not as wanted; None (any, or absent) always matches."""
    if any(isinstance(want, dict) for want in wanted):
        unlike = []
        for key in dict.fromkeys(key for want in wanted for key in want or {}):
            of_key = [value.get(key) for value in values]
            unlike += _unlike(f"{setting}.{key}", of_key, [(want or {}).get(key) for want in wanted])
        return unlike
    if all(value == want or None in (value, want) for value, want in zip(values, wanted, strict=True)):
        return []
    found, asked = [_told(value) for value in values], [_told(want) for want in wanted]
    if len(set(asked)) == 1:
        found, asked = list(dict.fromkeys(found)), asked[:1]
    return [f"{setting} {' and '.join(found)}, not {' and '.join(asked)}"]


def _told(value: Any) -> str:
    return "any" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def compared_runs(params: ComparisonParams, runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The runs compared, and a note where that is not all of both: where they share seeds, two or more, only those.

    Runs with the same seed share the order of the images and the random numbers of the augmentation, so they form a
    pair: what the data stream contributes to both cancels, however much that is.
    """
    mine = runs[runs["variant"].isin([params.variant, params.baseline])]
    first, second = (set(mine.loc[mine["variant"] == name, "seed"]) for name in (params.variant, params.baseline))
    shared = first & second
    if len(shared) < 2 or first == second:
        return mine, ""
    note = f"compared on the {len(shared)} seeds that both have, of {len(first)} and {len(second)}"
    return mine[mine["seed"].isin(shared)], note


def obstacle(params: ComparisonParams, runs: pd.DataFrame) -> str | None:
    """Why `runs`, the `compared_runs`, cannot be compared at all: one is missing or has no value, or speeds differ."""
    for variant in filter(None, (params.variant, params.baseline)):
        mine = runs[runs["variant"] == variant]
        if mine.empty:
            return f"{variant} is not in the study"
        without = mine[mine[params.metric].isna()].sort_values("seed")
        if not without.empty:
            diverged = ", diverged" if without["diverged_epoch"].notna().all() else ""
            seeds = ("seed " if len(without) == 1 else "seeds ") + ", ".join(map(str, without["seed"]))
            return f"{variant} has no {METRICS[params.metric].words} for {seeds}{diverged}"
    if params.metric == "images_per_second":
        return _speed_obstacle(runs)
    return None


def _speed_obstacle(runs: pd.DataFrame) -> str | None:
    """The conditions under which the speeds of `runs` were measured, where they differ; else None."""
    ways = runs[[name for name in MEASURED_ON if name in runs]].astype(object).fillna("none")
    differing = {name: sorted({_plain(value) for value in ways[name]}) for name in ways if ways[name].nunique() > 1}
    if "concurrent_seeds" in differing:  # nine seeds share a GPU by four and five, those of the baseline as well
        groups = [sorted(group) for _, group in runs.groupby("variant")["concurrent_seeds"]]
        if all(group == groups[0] for group in groups):
            del differing["concurrent_seeds"]
    told = "; ".join(f"{name} {' and '.join(values)}" for name, values in differing.items())
    return f"speeds measured under different conditions are not comparable: {told}" if told else None


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
