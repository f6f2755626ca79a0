import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ablation.training import checkpoint


def state(epoch: int) -> dict[str, object]:
    return {"model": {"w": torch.full((3,), float(epoch))}, "epochs": [{"number": epoch, "loss": 0.5}], "best": None}


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    for epoch in (1, 2, 3, 10):
        checkpoint.save(tmp_path, epoch, state(epoch))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-000003.pt", "epoch-000010.pt"]
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded["epochs"] == [{"number": 10, "loss": 0.5}] and loaded["best"] is None
    assert torch.equal(loaded["model"]["w"], torch.full((3,), 10.0))


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"a foreign file of some length, longer than a digest",
        lambda data: data[:-10] + b"\0" * 10,
    ],
    ids=["truncated", "empty", "foreign", "bits changed"],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_serves(damage, tmp_path: Path, capsys) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    checkpoint.save(tmp_path, 2, state(2))
    newest = tmp_path / "epoch-000002.pt"
    newest.write_bytes(damage(newest.read_bytes()))

    loaded = checkpoint.load(tmp_path)

    assert loaded is not None and loaded["epochs"][0]["number"] == 1
    aside = tmp_path / "epoch-000002.damaged"
    assert capsys.readouterr().err == f"{aside}: damaged checkpoint set aside; resuming from the one before it\n"
    assert aside.exists() and not newest.exists()

    (tmp_path / "epoch-000001.pt").write_bytes(b"")
    assert checkpoint.load(tmp_path) is None
    aside = tmp_path / "epoch-000001.damaged"
    assert capsys.readouterr().err == f"{aside}: damaged checkpoint set aside; training starts over\n"


def test_what_a_kill_left_in_the_middle_of_a_write_is_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a" / "seed-0", 1, state(1))
    (tmp_path / "a" / "seed-0" / ".epoch-000002.pt.x7f").write_bytes(b"half of it")
    with checkpoint.claimed(tmp_path / "a", [0]):
        assert [path.name for path in (tmp_path / "a" / "seed-0").iterdir()] == ["epoch-000001.pt"]


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    checkpoint.save(tmp_path, 1, {"model": Evil()})
    with pytest.raises(Exception, match="weights_only"):
        checkpoint.load(tmp_path)


def test_key_depends_on_settings_and_on_the_bytes_of_files_not_on_their_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a = 1\n")
    two.write_text("a = 1\n")
    key = checkpoint.key({"lr": 0.1, "epochs": 2}, [one])
    assert key == checkpoint.key({"epochs": 2, "lr": 0.1}, [two])
    assert key != checkpoint.key({"lr": 0.2, "epochs": 2}, [one])
    two.write_text("a = 2\n")
    assert key != checkpoint.key({"lr": 0.1, "epochs": 2}, [two])


def test_root_is_that_of_the_outermost_project(tmp_path: Path, monkeypatch) -> None:
    temporary = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "x"
    (temporary / ".dvc").mkdir(parents=True)
    for folder in (tmp_path, temporary):
        monkeypatch.chdir(folder)
        assert checkpoint.root() == tmp_path / ".dvc" / "tmp" / "checkpoints"


def test_a_run_that_ended_well_keeps_the_last_checkpoint_and_an_interrupted_one_two(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), checkpoint.claimed(tmp_path / "a", [0]) as folder:
        checkpoint.save(folder / "seed-0", 1, state(1))
        checkpoint.save(folder / "seed-0", 2, state(2))
        raise KeyboardInterrupt
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["lock", "seed-0"]
    with checkpoint.claimed(tmp_path / "a", [0]) as folder:
        assert len(list((folder / "seed-0").iterdir())) == 2
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "a/finished",
        "a/lock",
        "a/seed-0/epoch-000002.pt",
    ]
    with checkpoint.claimed(tmp_path / "a", [0]) as folder:
        assert not (folder / "finished").exists()


def test_a_seed_that_was_interrupted_stays_so_where_others_come_to_their_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), checkpoint.claimed(tmp_path / "a", [0, 1]) as folder:
        for seed, epochs in ((0, 3), (1, 2)):
            for epoch in range(1, epochs + 1):
                checkpoint.save(folder / f"seed-{seed}", epoch, state(epoch))
        raise KeyboardInterrupt
    with checkpoint.claimed(tmp_path / "a", [0]) as folder:
        pass
    assert len(list((folder / "seed-0").iterdir())) == 1 and len(list((folder / "seed-1").iterdir())) == 2
    assert not (folder / "finished").exists()  # a month until it is pruned instead of a week
    with checkpoint.claimed(tmp_path / "a", [1, 2, 0]):
        pass
    assert len(list((folder / "seed-1").iterdir())) == 1 and (folder / "finished").exists()


@contextmanager
def held_by_another(folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process that holds `folder` and ends after `seconds`."""
    hold = "import sys, time; from ablation.training import checkpoint; from pathlib import Path\n"
    hold += f"with checkpoint.claimed(Path(sys.argv[1]), [0]): print('held', flush=True); time.sleep({seconds})"
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        yield other


def test_a_folder_in_use_is_waited_for(tmp_path: Path, capsys) -> None:
    with held_by_another(tmp_path / "a", 3) as other, checkpoint.claimed(tmp_path / "a", [0]) as folder:
        assert other.wait() == 0
        assert (folder / "lock").read_text() == str(os.getpid())
    assert (
        capsys.readouterr().err
        == f"note: process {other.pid} trains this variant or the same settings; waiting for it\n"
    )


def test_a_killed_process_holds_no_folder(tmp_path: Path) -> None:
    with held_by_another(tmp_path / "a", 60) as other:
        other.kill()
    with checkpoint.claimed(tmp_path / "a", [0]) as folder:
        assert folder.is_dir()


def test_finished_runs_are_pruned_after_a_week(tmp_path: Path) -> None:
    for name, days, finished in (("new", 6, True), ("old", 8, True), ("interrupted", 8, False)):
        checkpoint.save(tmp_path / name / "seed-0", 1, state(1))
        (tmp_path / name / "lock").touch()
        if finished:
            (tmp_path / name / "finished").touch()
        for path in (tmp_path / name).rglob("*"):
            os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    checkpoint.prune(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["interrupted", "new"]


def test_abandoned_checkpoints_are_pruned_a_month_after_they_were_last_touched(tmp_path: Path) -> None:
    now = time.time()
    for name, lock_days, checkpoint_days in (("old", 50, 40), ("resumed", 20, 50), ("long", 50, 20)):
        checkpoint.save(tmp_path / name / "seed-0", 1, state(1))
        (tmp_path / name / "lock").touch()
        for path, days in (("", 60), ("lock", lock_days), ("seed-0/epoch-000001.pt", checkpoint_days), ("seed-0", 60)):
            os.utime(tmp_path / name / path, (now - days * 24 * 3600,) * 2)
    with checkpoint.claimed(tmp_path / "mine", [0]):
        assert sorted(p.name for p in tmp_path.iterdir()) == ["long", "mine", "resumed"]


def test_a_file_that_goes_while_its_age_is_asked_for_keeps_its_folder(tmp_path: Path) -> None:
    """Like a temporary file that is then renamed; a dangling symlink has no age either."""
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/lock").touch()
    os.utime(tmp_path / "busy/lock", (0, 0))
    (tmp_path / "busy/epoch-000001.pt.tmp").symlink_to("nowhere")
    checkpoint.prune(tmp_path)
    assert (tmp_path / "busy").exists()
