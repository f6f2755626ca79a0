"""The project's own params.yaml with a few values changed."""

import copy
from pathlib import Path
from typing import Any

from ablation.common.settings import read_yaml

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "params.yaml").read_text(encoding="utf-8")
VALUES = read_yaml(PROJECT / "params.yaml")
SECTIONS = ", ".join(VALUES)
REMOVED = object()


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of params.yaml's values with those at the given key paths set, added or REMOVED."""
    values = copy.deepcopy(VALUES)
    for path, value in changes.items():
        *sections, key = path.split(".")
        owner = values
        for section in sections:
            owner = owner[section]
        if value is REMOVED:
            del owner[key]
        else:
            owner[key] = value
    return values


def replaced(old: str, new: str) -> bytes:
    """The text of params.yaml with `old`, which occurs once, replaced."""
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new).encode()


def line_of(text: str) -> int:
    """The number of the one line of params.yaml that starts with `text`."""
    (number,) = [i for i, line in enumerate(TEXT.splitlines(), start=1) if line.startswith(text)]
    return number
