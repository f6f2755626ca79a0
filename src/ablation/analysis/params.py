"""Settings of the section `aggregate`."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ablation.analysis.metrics import METRICS
from ablation.common.settings import Settings, matching, nearest

Name = Annotated[  # in file names and DVC's params paths: no dot
    str, matching("[A-Za-z0-9_][A-Za-z0-9_-]*", "letters, digits, '_' and '-', not beginning with '-'")
]


def _one_line(text: str) -> str:
    if not text or text != " ".join(text.splitlines()).strip():
        raise ValueError(f"{text!r} must be one line of text, without spaces around it")
    return text


Title = Annotated[str, AfterValidator(_one_line)]  # a line break would cut the row of a Markdown table


class SweepParams(Settings):
    """One line of a sweep figure: accuracy of `variants` against the setting in which they differ."""

    title: Title
    setting: Literal["lr", "weight_decay"]
    variants: Annotated[list[str], Field(min_length=1)]


class _Claim(Settings):
    """settings: name in `train` -> the value that the claim is about; a list has the variant's and the baseline's.

    Of a mapping only the named keys count; None stands for any value. See comparability.not_comparable.
    """

    settings: dict[str, Any]


class HigherParams(_Claim):
    name: Literal["higher"]


class LowerParams(_Claim):
    name: Literal["lower"]


class EqualParams(_Claim):
    name: Literal["equal"]
    margin: Annotated[float, Field(gt=0)]  # of equivalence: differences up to here count as none


class AtMostParams(_Claim):
    """An upper bound: of the difference from the baseline or, without one, of the variant itself."""

    name: Literal["at_most"]
    value: float


class NumberParams(_Claim):
    """A reported figure: of the difference from the baseline or, without one, of the variant itself."""

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
    family: Title  # comparisons that answer one question: the family of Holm's correction
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
    """The data and settings for which the claimed numbers were reported; with others, they cannot be tested."""

    label: Title
    train_size: Annotated[int, Field(ge=1)]  # images
    val_size: Annotated[int, Field(ge=1)]  # images
    settings: dict[str, Any]  # as a claim's, for every number; its claim's own take precedence


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
