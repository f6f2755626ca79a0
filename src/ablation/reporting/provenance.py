"""Where the runs come from: the commit in the current folder, and the settings that differ from the committed ones."""

import contextlib
import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ablation.analysis.comparability import changes
from ablation.common.errors import InvalidInput
from ablation.common.settings import parse_yaml, read_yaml

CONFIGURED = "configs/params.yaml"  # as when the study began; params.yaml itself may already be the next study's
CODE = ["src", "stages", "dvc.yaml"]
MAX_SHOWN = 10  # of a list


def provenance() -> dict[str, Any]:
    """Where the runs come from, for JSON; a fact that is unknown (no git, no repository, no commit) is absent.

    commit: short hash; date: of that commit; uncommitted: those of CODE that differ from it. changed: the settings of
    the study that do, as [{"name": dotted path, "default": the commit's, "value": ...}], without `default` or `value`
    where there is no such setting.
    """
    facts: dict[str, Any] = {}
    head = _git("log", "-1", "--no-show-signature", "--format=%h%n%ci")
    if head:
        facts["commit"], facts["date"] = head.splitlines()
        facts["uncommitted"] = [path for path in CODE if _git("status", "--porcelain", "--", path)]
    committed = _git("show", "HEAD:./params.yaml")
    if committed is not None:
        with contextlib.suppress(InvalidInput):
            settings = parse_yaml(committed, "HEAD:params.yaml")
            if isinstance(settings, dict):
                facts["changed"] = changes(settings, read_yaml(CONFIGURED))
    return facts


def lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts as text, by label; several lines where several settings were changed."""
    told = {}
    if "commit" in facts:
        told = {"commit": commit_text(facts), "committed": facts["date"]}
    if "changed" in facts:
        told["settings changed"] = (
            "\n".join(map(change_text, facts["changed"])) or "none: params.yaml is the committed one"
        )
    return told


def commit_text(facts: Mapping[str, Any]) -> str:
    """The commit of `provenance`, and what differs from it."""
    dirty = f", with uncommitted changes in {', '.join(facts['uncommitted'])}" if facts["uncommitted"] else ""
    return f"{facts['commit']}{dirty}"


def change_text(change: Mapping[str, Any]) -> str:
    """One of `changes`, as "train.lr: 0.01 → 0.1"."""
    return f"{change['name']}: {_shown(change, 'default')} → {_shown(change, 'value')}"


def command(changed: Sequence[Mapping[str, Any]]) -> str:
    """The command that reproduces the study from the commit: DVC's -S options are overrides in Hydra's syntax."""
    options = []
    for change in changed:
        if "value" not in change:
            override = f"~{change['name']}"
        else:
            override = f"{'' if 'default' in change else '+'}{change['name']}={_hydra(change['value'])}"
        options.append(f" -S {shlex.quote(override)}")
    return "dvc exp run" + "".join(options)


def _git(*arguments: str) -> str | None:
    """What git prints in the current folder; None where it fails."""
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments], capture_output=True, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return answer.stdout


def _shown(change: Mapping[str, Any], key: str) -> str:
    if key not in change:
        return "absent"
    value = change[key]
    if isinstance(value, list | dict) and len(value) > MAX_SHOWN:
        return f"{len(value)} entries"
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def _hydra(value: Any) -> str:
    """As JSON, but with mappings' keys unquoted, as Hydra requires."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
