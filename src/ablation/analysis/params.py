"""Settings of the section `aggregate`."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ablation.analysis.metrics import METRICS
from ablation.common.settings import Settings, nearest

Name = Annotated[str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9_-]*$")]  # of files, and in DVC's params paths: no dot
Title = Annotated[str, Field(min_length=1)]
# Settings that change a result by rounding at most
ROUNDING = {"device", "num_threads", "deterministic", "compile", "checkpoint_every_epochs"}


class SweepParams(Settings):
    """One line of a sweep figure: accuracy of `variants` against the setting in which they differ."""

    title: Title
    setting: Literal["lr", "weight_decay"]
    variants: Annotated[list[str], Field(min_length=1)]


class _Claim(Settings):
    """settings: name in `train` -> the value for which it is claimed; a list has the variant's and the baseline's.

    Of a mapping, the keys that are named; None stands for any value.
    """

    settings: dict[str, Any]


class HigherParams(_Claim):
    name: Literal["higher"]


class LowerParams(_Claim):
    name: Literal["lower"]


class EqualParams(_Claim):
    name: Literal["equal"]
    margin: Annotated[float, Field(gt=0)]  # differences up to here count as none


class AtMostParams(_Claim):
    """Not above `value`: the difference from the baseline, or the variant itself where there is none."""

    name: Literal["at_most"]
    value: float


class NumberParams(_Claim):
    """A figure reported: of the difference from the baseline, or of the variant itself where there is none."""

    name: Literal["number"]
    value: float
    tolerance: Annotated[float, Field(gt=0)]


ClaimParams = Annotated[
    HigherParams | LowerParams | EqualParams | AtMostParams | NumberParams, Field(discriminator="name")
]


def _known(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"'{metric}' is not a metric; {nearest(metric, METRICS)}")
    return metric


class ComparisonParams(Settings):
    """What the study claims of `variant` against `baseline`, or of `variant` alone; accuracies are fractions."""

    title: Title
    family: str  # comparisons that answer one question; Holm's correction is over them
    metric: Annotated[str, AfterValidator(_known)]
    variant: str
    baseline: str | None
    claim: ClaimParams

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.baseline is None and not isinstance(self.claim, NumberParams | AtMostParams):
            raise ValueError(
                f"the claim {self.claim.name} needs a baseline; without one only number and at_most can be claimed"
            )
        figures = self.claim.model_dump(exclude={"name", "settings"})
        if METRICS[self.metric].is_share and any(abs(value) > 1 for value in figures.values()):
            told = ", ".join(f"{key} {value:g}" for key, value in figures.items())
            raise ValueError(f"the claim's {told}: {self.metric} is a fraction, so at most 1 (0.6 is 60 %)")
        for setting, values in self.claim.settings.items():
            if isinstance(values, list) and (self.baseline is None or len(values) != 2):
                raise ValueError(
                    f"the claim's {setting}: {values} must be one value, or the variant's and the baseline's"
                )
        if self.baseline == self.variant:
            raise ValueError(f"'{self.variant}' is compared with itself; variant and baseline must differ")
        return self


class ReportedParams(Settings):
    """For what the numbers claimed were reported: for other data or settings they can be neither right nor wrong."""

    label: Title
    train_size: Annotated[int, Field(ge=1)]  # images
    settings: dict[str, Any]  # as a claim's, of every number whose claim does not name the same ones


class AggregateParams(Settings):
    """The section `aggregate` of params.yaml."""

    sweeps: dict[Name, SweepParams]
    reported: ReportedParams
    comparisons: dict[str, ComparisonParams]


class ReportParams(AggregateParams):
    """configs/aggregate.yaml: the section `aggregate` and what there is to report on."""

    label: str  # names the data
    seeds: dict[str, list[int]]  # of each variant
    variants: dict[str, dict[str, Any]]  # name -> settings, in the order of `study`

    def not_comparable(self, num_train_images: int) -> dict[str, str]:
        """Name -> what differs, of the comparisons that these runs cannot answer.

        A number that was reported for other data or settings; what is claimed for other settings; a variant and a
        baseline trained for different epochs, unless they differ in nothing else but ROUNDING, or the epochs are
        claimed, or what is compared is counted.
        """
        reasons = {}
        for name, comparison in self.comparisons.items():
            claim = comparison.claim
            compared = [self.variants[v] for v in (comparison.variant, comparison.baseline) if v in self.variants]
            differs, claimed_for = [], claim.settings
            if isinstance(claim, NumberParams):
                claimed_for = self.reported.settings | claimed_for
                if self.label != self.reported.label:
                    differs.append(f"{self.label}, not {self.reported.label}")
                if num_train_images != self.reported.train_size:
                    differs.append(f"{num_train_images:,} training images, not {self.reported.train_size:,}")
            for setting, value in claimed_for.items():
                wanted = value if isinstance(value, list) else [value] * len(compared)
                if len(compared) == len(wanted):
                    differs += _differing(setting, [settings[setting] for settings in compared], wanted)
            epochs = [settings["epochs"] for settings in compared]
            others = [{k: v for k, v in settings.items() if k not in {"epochs", *ROUNDING}} for settings in compared]
            same_length = METRICS[comparison.metric].is_count or "epochs" in claimed_for or len(set(epochs)) < 2
            if not same_length and others[0] != others[1]:
                differs.append(f"{epochs[0]} epochs against {epochs[1]}")
            if differs:
                reasons[name] = "; ".join(differs)
        return reasons


def _differing(setting: str, values: list[Any], wanted: list[Any]) -> list[str]:
    """What of a setting of the variant, and of the baseline, is not as wanted; None stands for any, and for none."""
    if any(isinstance(want, dict) for want in wanted):
        differing = []
        for key in dict.fromkeys(key for want in wanted for key in want or {}):
            of_key = [value.get(key) for value in values]
            differing += _differing(f"{setting}.{key}", of_key, [(want or {}).get(key) for want in wanted])
        return differing
    if all(value == want or None in (value, want) for value, want in zip(values, wanted, strict=True)):
        return []
    found, asked = [_told(value) for value in values], [_told(want) for want in wanted]
    if len(set(asked)) == 1:
        found, asked = list(dict.fromkeys(found)), asked[:1]
    return [f"{setting} {' and '.join(found)}, not {' and '.join(asked)}"]


def _told(value: Any) -> str:
    return "any" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
