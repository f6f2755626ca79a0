"""The README's results: `python -m ablation.publishing.readme RESULTS` in the project's root, or `make readme`.

Copies the tables of the folder RESULTS into docs/results, draws the figure from the copy, and writes what they say
between the README's markers. No stage depends on this code, so a change here reruns nothing.
"""

import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ablation.analysis.comparisons import Comparison
from ablation.common.errors import InvalidInput, in_one_line
from ablation.common.files import read_json, write_bytes, write_file, write_text
from ablation.reporting import comparison_tables, forest, provenance, style, tables

README, FOLDER = Path("README.md"), Path("docs/results")
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
COPIED = ["ablation.csv", "comparisons.csv", "statements.csv", "provenance.json"]
TEXTS = ["variant", "baseline", "name", "title", "family", "data"]
FIGURE = "forest.png"
SOURCE = "sha256 of comparisons.csv"  # key in the PNG's metadata: the figure was drawn from that very table


def main() -> None:
    if len(sys.argv) != 2:
        raise InvalidInput("usage: python -m ablation.publishing.readme RESULTS, the folder that dvc repro writes")
    source = Path(sys.argv[1])
    contents = {name: _read(source / name) for name in COPIED}
    text = _read(README).decode()
    replaced(text, "")  # refuses before anything is written
    for name, content in contents.items():
        write_bytes(FOLDER / name, content)
    draw(FOLDER)
    write_text(README, replaced(text, section(FOLDER)))
    print(f"{README}, {FOLDER}: the results of {source}")


def replaced(readme: str, section: str) -> str:
    """`readme` with `section` between its markers. Raises InvalidInput where they are not there."""
    before, begin, rest = readme.partition(BEGIN + "\n")
    _, end, after = rest.partition(END + "\n")
    if not begin or not end:
        raise InvalidInput(f"{README}: the results go between the lines {BEGIN} and {END}, which are not both there")
    return f"{before}{begin}{section}{end}{after}"


def section(folder: Path) -> str:
    """The results in Markdown, from the files that `main` leaves in `folder`."""
    runs = _read_table(folder / "ablation.csv", ["diverged_epoch"])
    label = str(runs["data"].iloc[0])
    parts = ["", f"The data: **{tables.data_name(label)}**. {_origin(runs, read_json(folder / 'provenance.json'))}"]
    if label != tables.OFFICIAL:
        parts += ["", tables.warning(label).rstrip()]
    if (folder / FIGURE).exists():
        parts += ["", f"![Effects against what the study claims, with 95 % intervals]({FOLDER / FIGURE})"]
    if not (effects := _effects(folder)).empty:
        parts += ["", "### What each change does", "", _markdown(effects)]
    parts += [
        "",
        "### Accuracy, best validation accuracy first",
        "",
        _markdown(_accuracies(runs)),
        "",
        tables.LEGEND,
    ]
    parts += ["", "### The study's statements", "", _markdown(_statements(folder))]
    if not (figures := _figures(folder)).empty:
        parts += ["", "### Figures that the study reports", "", _markdown(figures)]
    parts += [
        "",
        f"All of it as tables: [{FOLDER}]({FOLDER}). `make readme` wrote this part.",
    ]
    return "\n".join([*parts, ""])


def read_comparisons(path: Path) -> list[Comparison]:
    """Those of results/comparisons.csv that were run."""
    table = _read_table(path, comparison_tables.INTEGER_COLUMNS)
    ran = table[table["verdict"] != "not run"][comparison_tables.COLUMNS].astype(object)
    records: list[dict[Any, Any]] = ran.where(ran.notna(), None).to_dict("records")
    return [
        Comparison(**{str(key): value for key, value in row.items()} | {"note": row["note"] or ""}) for row in records
    ]


def _claimed(path: Path) -> dict[str, str]:
    table = _read_table(path)
    return dict(zip(table["name"], table["claimed"], strict=True))


def draw(folder: Path) -> None:
    """The figure, from the tables in `folder`; none where no comparison of the plot was run."""
    path = folder / "comparisons.csv"
    rows = forest.groups(read_comparisons(path)).get("forest")
    if rows is None:
        (folder / FIGURE).unlink(missing_ok=True)
        return
    label = str(_read_table(folder / "ablation.csv")["data"].iloc[0])
    buffer = io.BytesIO()
    with style.every_row():
        forest.forest(rows, _claimed(path), label).save(buffer, format="png", scale_factor=1.5)
    told = PngInfo()
    told.add_text(SOURCE, hashlib.sha256(path.read_bytes()).hexdigest())
    with Image.open(buffer) as picture:
        write_file(folder / FIGURE, lambda file: picture.save(file, "png", pnginfo=told, optimize=True))


def _origin(runs: pd.DataFrame, facts: dict[str, Any]) -> str:
    """How many runs on which machine, and how to reproduce them."""
    machine = ", ".join(f"{name} {' and '.join(map(str, runs[name].unique()))}" for name in ("device", "torch"))
    said = (
        f"{style.counted(runs['variant'].nunique(), 'variant')} with {style.seeds_per_variant(runs)} each, trained on "
    )
    said += f"{runs['train_images'].iloc[0]:,} images; {machine}; "
    said += f"{runs['seconds'].sum() / 60:,.0f} minutes of training, the sum over {len(runs)} runs."
    if "commit" in facts:
        said += f" Aggregated with the code of {facts['date'][:10]}, {provenance.commit_text(facts)}."
    if "changed" in facts:
        said += f" The settings:\n\n```console\n{provenance.command(facts['changed'])}\n```"
    return said


def _accuracies(runs: pd.DataFrame) -> pd.DataFrame:
    num_images = {split: int(runs[f"{split}_images"].iloc[0]) for split in ("val", "test")}
    rows = pd.DataFrame(tables.accuracy_rows(runs, num_images))
    return rows.assign(variant="`" + rows["variant"] + "`")


def _statements(folder: Path) -> pd.DataFrame:
    table = _read_table(folder / "statements.csv")
    return pd.DataFrame(
        {
            "": table["number"].astype(str),
            "statement": table["statement"] + "<br>*Tested: " + table["tested"] + ".*",
            "verdict": "**" + table["answer"] + "**",
            "evidence": table["evidence"].str.replace("; ", "<br>"),
        }
    )


def _effects(folder: Path) -> pd.DataFrame:
    path = folder / "comparisons.csv"
    return pd.DataFrame(comparison_tables.effect_rows(read_comparisons(path), _claimed(path)))


def _figures(folder: Path) -> pd.DataFrame:
    """The comparisons that claim a number, including those not run."""
    table = _read_table(folder / "comparisons.csv").fillna({"note": ""})
    ran = {row.name: row for row in read_comparisons(folder / "comparisons.csv")}
    rows = []
    for _, line in table[table["claim"] == "number"].iterrows():
        row = ran.get(line["name"])
        cells = {"figure": line["title"], "verdict": line["answer"], "notes": line["note"]}
        if row is not None:
            cells |= {
                "figure": comparison_tables.title_text(row),
                "reported": line["claimed"],
                "measured": comparison_tables.measured_text(row),
                "difference [95 %]": comparison_tables.effect_text(row),
                "n": comparison_tables.seeds_text(row),
            }
        rows.append(cells)
    columns = ["figure", "reported", "measured", "difference [95 %]", "n", "verdict", "notes"]
    return pd.DataFrame(rows, columns=columns, dtype=object).fillna("")


def _markdown(table: pd.DataFrame) -> str:
    """A Markdown table, without the padding that would make each line as long as the longest."""
    lines: list[list[Any]] = [list(table), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _read_table(path: Path, integers: Sequence[str] = ()) -> pd.DataFrame:
    """A table of results/. A variant may be called NA or 1e-2; only an empty cell is a missing value."""
    kinds = dict.fromkeys(TEXTS, "str") | dict.fromkeys(integers, "Int64")
    return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidInput(
            f"{path}: no such file; run it in the project's root after dvc repro, or give make readme RESULTS=FOLDER"
        ) from None


if __name__ == "__main__":
    in_one_line(main)
