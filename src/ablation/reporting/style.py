"""How every figure looks, and how it becomes a file.

Blue is test, vermilion is validation, grey is training: colour-blind safe, and distinguished by shape or dash too. A
cross is a run that diverged. For verdicts, blue is supported, vermilion contradicted and grey neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt

from ablation.common.files import write_file

COLORS = {"train": "#8a8a8a", "val": "#d55e00", "test": "#0072b2"}  # the last two: Okabe and Ito 2008
SHAPES = {"val": "diamond", "test": "circle"}
DASHES = {"train": [4, 2], "val": [1, 0]}
NAMES = {"train": "training", "val": "validation", "test": "test"}
TESTED = ["supported", "contradicted", "undecided"]
VERDICTS = [*TESTED, "not comparable"]
VERDICT_COLORS = ["#0072b2", "#d55e00", "#767676", "#767676"]
VERDICT_SHAPES = ["circle", "diamond", "square", "triangle-up"]
FAINT = "#999"
WHOLE = "datum.value % 1 ? '' : datum.value"  # tick labels at whole numbers only
CROSS: dict[str, Any] = {"shape": "M-1,-1L1,1M1,-1L-1,1", "size": 40, "filled": False, "strokeWidth": 2, "opacity": 1}
ONE_SEED: dict[str, Any] = {"filled": True, "size": 12, "opacity": 0.45}


def write_png(chart: alt.TopLevelMixin, path: Path) -> None:
    """Render `chart` to `path`, without a browser or network, at 192 pixels per inch."""
    with every_row():
        write_file(path, lambda file: chart.save(file, format="png", scale_factor=2))


@contextmanager
def every_row() -> Iterator[None]:
    """While entered, lifts Altair's limit of 5,000 rows, which the curves of many variants and epochs exceed."""
    with alt.data_transformers.enable("default", max_rows=None):
        yield


def by_split(channel: Any, values: dict[str, Any], splits: list[str]) -> Any:
    """Encode the split by `channel`, with one of `values` for each of `splits`; equal legends merge into one."""
    names = ", ".join(f"{split}: '{NAMES[split]}'" for split in splits)
    legend = alt.Legend(title=None, orient="top", labelExpr=f"{{{names}}}[datum.label]")
    if "train" in splits:
        legend.symbolType = "stroke"
    return channel("split:N", scale=alt.Scale(domain=splits, range=[values[split] for split in splits]), legend=legend)


def finish(chart: Any, title: str, subtitle: str | list[str]) -> alt.TopLevelMixin:
    """`chart` with its title and the common style."""
    heading = alt.TitleParams(
        title, subtitle=subtitle, anchor="start", fontSize=15, subtitleFontSize=11, subtitleColor="#444", offset=10
    )
    finished: alt.TopLevelMixin = (
        chart.properties(title=heading, background="white", padding=12)
        .configure(font="Liberation Sans, Arial, Helvetica, sans-serif")
        .configure_view(stroke="#ddd")
        .configure_legend(symbolOpacity=1, symbolStrokeWidth=2)
        .configure_axis(
            gridColor="#eee",
            domainColor="#aaa",
            tickColor="#aaa",
            labelColor="#333",
            titleColor="#333",
            titleFontWeight="normal",
            labelLimit=260,
        )
    )
    return finished
