import re
import shutil

import pytest
import yaml

from tests.pipeline import kills

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


LEFT_BEHIND = [  # the text before which writing an entry was cut off -> what DVC says then
    (None, "join() argument must be str"),
    ("\nouts:", "failed to reproduce 'aggregate': 'outs'"),
    ("\n- path: results/curves.csv", "output 'results/curves.csv' does not exist"),
]


def test_where_a_kill_left_something_in_dvcs_cache_of_runs_its_removal_loses_nothing(project, environment, monkeypatch):
    """A folder without its entry, or with one that ends before `keep`, still under its temporary name."""
    clone = kills.Project(project, environment)
    assert clone.repro()
    outcome = clone.outcome()
    for keep, message in LEFT_BEHIND:
        for entry in (project / ".dvc/cache/runs").glob("*/*/*"):
            if keep is not None and keep in entry.read_text():
                entry.with_name(".left-behind.tmp").write_text(entry.read_text().partition(keep)[0] + "\n")
            if keep is None or "stages/aggregate.py" in entry.read_text():
                entry.unlink()
        if keep is None:
            (project / "dvc.lock").unlink()
        else:
            lock = yaml.safe_load((project / "dvc.lock").read_text())
            del lock["stages"]["aggregate"]
            (project / "dvc.lock").write_text(yaml.safe_dump(lock))
            shutil.rmtree(project / "results")
        with monkeypatch.context() as patch:
            patch.setattr(kills, "LEFT_BEHIND", [])  # so that nothing is removed yet
            with pytest.raises(RuntimeError, match=re.escape(message)):
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
