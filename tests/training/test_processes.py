import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablation.common.errors import InvalidInput
from ablation.training.processes import num_processes, run_in_processes

linux = pytest.mark.skipif(sys.platform != "linux", reason="seeds run side by side on Linux only")


def test_one_at_a_time_runs_in_this_process_in_order() -> None:
    seen: list[int] = []
    run_in_processes(seen.append, [3, 1, 2], 1)
    assert seen == [3, 1, 2]


@linux
def test_seeds_run_side_by_side_and_never_more_than_allowed(tmp_path: Path) -> None:
    def train(seed: int) -> None:
        for name in ("started", "running"):
            (tmp_path / f"{seed}.{name}").touch()
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("*.started"))) < 2 and time.monotonic() < deadline:  # for each other
            time.sleep(0.01)
        (tmp_path / f"{seed}.done").write_text(str(len(list(tmp_path.glob("*.running")))))
        time.sleep(0.1)  # for the other to count as well
        (tmp_path / f"{seed}.running").unlink()

    run_in_processes(train, [0, 1, 2, 3, 4], 2)
    at_once = [int((tmp_path / f"{seed}.done").read_text()) for seed in range(5)]
    assert max(at_once) == 2


@linux
def test_a_seed_that_fails_ends_the_others_with_its_own_line(tmp_path: Path, capfd) -> None:
    def train(seed: int) -> None:
        if seed == 1:
            raise InvalidInput("seed 1 is unlucky")
        time.sleep(30)
        (tmp_path / "survived").touch()

    start = time.monotonic()
    with pytest.raises(SystemExit) as exit_:
        run_in_processes(train, [0, 1], 2)
    assert exit_.value.code == 1
    assert "error: seed 1 is unlucky\n" in capfd.readouterr().err
    assert time.monotonic() - start < 10 and not (tmp_path / "survived").exists()
    assert not multiprocessing.active_children()


@linux
@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGKILL, "SIGKILL, possibly out of memory"), (signal.SIGTERM, "SIGTERM")],
)
def test_a_killed_seed_is_named(number: signal.Signals, told: str) -> None:
    def train(seed: int) -> None:
        if seed == 7:
            os.kill(os.getpid(), number)
        time.sleep(30)

    with pytest.raises(InvalidInput, match=f"^the process of seed 7 was killed by {told}$"):
        run_in_processes(train, [0, 7], 2)
    assert not multiprocessing.active_children()


@linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_lines_of_seeds_side_by_side_are_written_whole(stream: str, unbuffered: str) -> None:
    program = f"""
import sys
from ablation.training.processes import run_in_processes

run_in_processes(lambda seed: print("seed", seed, file=sys.{stream}, flush=True), [0, 1], 2)
"""
    reader, writer = os.pipe2(os.O_DIRECT)  # each read returns what one write has written
    with os.fdopen(reader, "rb", buffering=0) as lines:
        with os.fdopen(writer, "wb") as output:
            environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
            subprocess.run([sys.executable, "-c", program], check=True, env=environment, **{stream: output})
        assert {lines.read(100), lines.read(100)} == {b"seed 0\n", b"seed 1\n"}


@linux
def test_the_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = f"""
import os, time
from pathlib import Path
from ablation.training.processes import run_in_processes
def train(seed):
    Path({str(tmp_path)!r}, f"pid-{{seed}}").write_text(str(os.getpid()))
    time.sleep(60)
run_in_processes(train, [0, 1], 2)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        while len(pids := [p.read_text() for p in tmp_path.glob("pid-*")]) < 2 or not all(pids):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("cores", "num_threads", "expected"),
    [
        (2, 1, {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 8: 2, 9: 3}),
        (8, 1, {3: 3, 16: 8, 17: 9, 30: 15}),
        (8, 4, {1: 1, 30: 2}),
        (8, 16, {30: 1}),
    ],
)
def test_seeds_at_a_time_keep_all_cores_busy(cores: int, num_threads: int, expected, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert {n: num_processes(n, num_threads) for n in expected} == expected


def test_one_seed_at_a_time_where_fork_is_unsafe(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert num_processes(3, 1) == 1
