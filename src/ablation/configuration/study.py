"""params.yaml as a whole: checked once, then split into one settings file per stage and variant."""

import difflib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ablation.analysis.params import AggregateParams, Name, ReportParams
from ablation.common.errors import InvalidInput
from ablation.common.settings import Settings, nearest, read_yaml, write_yaml
from ablation.data.params import DataParams, DownloadParams, NormalizeParams
from ablation.evaluation.params import EvaluateParams
from ablation.training.params import Seeds, TrainParams, VariantParams

MISSPELT = 0.85  # difflib's ratio of names that differ by a letter or two


class StudyParams(Settings):
    """params.yaml."""

    data: DataParams
    seeds: Seeds
    study: Annotated[list[Name], Field(min_length=1)]
    train: TrainParams
    variants: dict[Name, dict[str, Any]]
    evaluate: EvaluateParams
    aggregate: AggregateParams


def merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` applied key by key; a mapping with another `name` replaces the old one.

    Null inherits the value in `base`; where `base` lacks the key, the null stays, to be refused as an unknown key.
    """
    merged = dict(base)
    for key, value in overrides.items():
        old = base.get(key)
        if value is None and key in base:
            continue
        if isinstance(old, dict) and _extends(value, old):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _extends(mapping: Any, old: Any) -> bool:
    """Whether `mapping` overrides keys of the mapping `old`, rather than replacing it by one of another name."""
    if not isinstance(mapping, dict) or not isinstance(old, dict):
        return False
    return mapping.get("name") in (None, old.get("name"))


def resolve(source: str) -> tuple[StudyParams, dict[str, VariantParams]]:
    """The checked params file `source` and the settings of each variant in `study`, in that order.

    Variants outside `study` are checked as well. Raises InvalidInput.
    """
    values = read_yaml(source)
    params = StudyParams.parse(values, source)
    _check_unique(source, "seeds", params.seeds)
    resolved = {}
    for name, overrides in params.variants.items():
        settings = merge({**values["train"], "seeds": params.seeds}, overrides)
        try:
            resolved[name] = VariantParams.parse(settings, source, under=f"variants.{name}")
        except InvalidInput as error:
            if name in params.study:
                raise
            raise InvalidInput(f"{error} (not in study, but checked with what it inherits from train)") from None
        _check_unique(source, f"variants.{name}.seeds", resolved[name].seeds)
    named = {f"aggregate.sweeps.{key}.variants": sweep.variants for key, sweep in params.aggregate.sweeps.items()}
    claimed = [("aggregate.reported.settings", *item) for item in params.aggregate.reported.settings.items()]
    for key, comparison in params.aggregate.comparisons.items():
        named[f"aggregate.comparisons.{key}.variant"] = [comparison.variant]
        named[f"aggregate.comparisons.{key}.baseline"] = [] if comparison.baseline is None else [comparison.baseline]
        for setting, value in comparison.claim.settings.items():
            both = value if isinstance(value, list) else [value]
            claimed += [(f"aggregate.comparisons.{key}.claim.settings", setting, one) for one in both]
    known = [values["train"], *(settings.model_dump(exclude={"seeds"}) for settings in resolved.values())]
    _check_claimed(source, claimed, known)
    for path, names in {"study": params.study, **named}.items():
        _check_unique(source, path, names)
        for name in names:
            if name not in resolved:
                raise InvalidInput(f"{source}: {path}: '{name}' is not a variant; {nearest(name, list(resolved))}")
    return params, {name: resolved[name] for name in params.study}


def check_devices(source: str, params: StudyParams) -> None:
    """Raise InvalidInput where this machine lacks a device that the params file `source` names."""
    named = {"train.device": params.train.device, "evaluate.device": params.evaluate.device}
    for name in params.study:
        named[f"variants.{name}.device"] = params.variants[name].get("device") or "auto"
    for path, device in named.items():
        if device not in ("auto", "cpu"):
            from ablation.models.device import choose_device  # imports torch, so on this path only

            try:
                choose_device(device)
            except InvalidInput as error:
                raise InvalidInput(f"{source}: {path}: {error}") from None


def check_repository() -> None:
    """Raise InvalidInput in a git repository without a commit: dvclive looks for one, and would fail in training."""
    from scmrepo.exceptions import SCMError
    from scmrepo.git import Git

    try:
        repository = Git(search_parent_directories=True)
    except SCMError:
        return  # no git repository
    try:
        if repository.no_commits:
            raise InvalidInput(f"{repository.root_dir}: this git repository has no commit yet; make one first")
    finally:
        repository.close()


def misspelt_variants(params: StudyParams) -> dict[str, str]:
    """Variants that nothing names -> the one of the study that they may stand for, as after `-S ++variants.`"""
    named = {*params.study}
    for sweep in params.aggregate.sweeps.values():
        named |= set(sweep.variants)
    for comparison in params.aggregate.comparisons.values():
        named |= {comparison.variant, comparison.baseline or comparison.variant}
    near = {
        name: difflib.get_close_matches(name, params.study, n=1, cutoff=MISSPELT)
        for name in params.variants
        if name not in named
    }
    return {name: matches[0] for name, matches in near.items() if matches}


def equal_settings(variants: dict[str, VariantParams]) -> list[list[str]]:
    """Groups of variants that differ in nothing but their name."""
    groups: dict[str, list[str]] = {}
    for name, settings in variants.items():
        groups.setdefault(settings.model_dump_json(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def write_configs(params: StudyParams, variants: dict[str, VariantParams], folder: Path) -> None:
    """Write to `folder` one YAML file per stage, train/<variant>.yaml per variant, and all of params.yaml."""
    write_yaml(folder / "params.yaml", params.model_dump())
    data = params.data.model_dump()
    write_yaml(folder / "download.yaml", {key: data[key] for key in DownloadParams.model_fields})
    write_yaml(folder / "normalize.yaml", {key: data[key] for key in NormalizeParams.model_fields})
    write_yaml(folder / "evaluate.yaml", params.evaluate.model_dump())
    report = ReportParams(
        label=params.data.label,
        seeds={name: settings.seeds for name, settings in variants.items()},
        variants={name: settings.model_dump(exclude={"seeds"}) for name, settings in variants.items()},
        **dict(params.aggregate),
    )
    write_yaml(folder / "aggregate.yaml", report.model_dump())
    for name, settings in variants.items():
        write_yaml(folder / "train" / f"{name}.yaml", settings.model_dump())


def _check_claimed(source: str, claimed: list[tuple[str, str, Any]], known: list[dict[str, Any]]) -> None:
    """Raise InvalidInput if a claimed setting has a value that is invalid whatever the other settings are.

    claimed: (path, setting, value) of each; known: the settings of all networks, with one of each name.
    """
    problems = []
    for path, setting, value in claimed:
        errors = []
        for settings in sorted(known, key=lambda settings: not _extends(value, settings.get(setting))):
            try:
                TrainParams.parse(merge(settings, {setting: value}), source, under=path)
                break
            except InvalidInput as error:
                errors.append(str(error))
        else:
            problems.append(errors[0])
    if problems:
        raise InvalidInput("\n       ".join(problems))


def _check_unique(source: str, path: str, values: list[Any]) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise InvalidInput(f"{source}: {path}: {value!r} is listed more than once")
