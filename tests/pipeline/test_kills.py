import re
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import kills

NUM_KILLS = 20
NUM_EPOCHS = 12


def test_where_a_kill_broke_dvcs_own_record_its_removal_loses_nothing(project, environment, monkeypatch):
    clone = kills.Project(project, environment)
    assert clone.repro()
    outcome = clone.outcome()
    for message, record in kills.DVC_CORRUPTED.items():
        (project / record).write_text("")
        with monkeypatch.context() as patch:
            patch.setattr(kills, "DVC_CORRUPTED", {})  # so that nothing is removed yet
            with pytest.raises(RuntimeError, match=re.escape(message)):
                clone.repro()
        assert clone.repro()
        assert clone.outcome() == outcome
        assert " epoch " not in clone.log.read_text()  # all from the cache


def test_where_a_kill_left_an_empty_entry_in_dvcs_cache_of_runs_its_removal_loses_nothing(
    project, environment, monkeypatch
):
    clone = kills.Project(project, environment)
    assert clone.repro()
    outcome = clone.outcome()
    (project / "dvc.lock").unlink()
    for entry in (project / ".dvc/cache/runs").glob("*/*/*"):
        entry.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(kills, "EMPTY_ENTRY", "nothing is removed yet")
        with pytest.raises(RuntimeError, match=re.escape("join() argument must be str")):
            clone.repro()
    assert clone.repro()
    assert clone.outcome() == outcome
    assert " epoch " not in clone.log.read_text()  # all from checkpoints


def test_a_run_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(project, environment):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params |= {"study": ["dropout"], "seeds": [0, 1]}
    params["train"]["epochs"] = NUM_EPOCHS
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    clone = kills.Project(project, environment)
    assert clone.repro()
    undisturbed = clone.outcome()
    assert {name for name in undisturbed if name.endswith(".safetensors")} == {
        f"runs/dropout/weights/seed-{seed}.safetensors" for seed in (0, 1)
    }
    curves = undisturbed["results/curves.csv"].decode().splitlines()
    assert len(curves) == 1 + 2 * NUM_EPOCHS  # no epoch twice, none missing

    clone.start_over()
    outcomes, resumed = kills.kill_repeatedly(clone, NUM_KILLS)

    assert resumed > 0
    for outcome in outcomes:
        assert outcome.keys() == undisturbed.keys()
        assert [name for name in outcome if outcome[name] != undisturbed[name]] == []
