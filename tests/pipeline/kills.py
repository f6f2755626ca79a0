"""Kill `dvc repro` repeatedly and check that it ends with the same bytes as an undisturbed run.

As a script: python tests/pipeline/kills.py PROJECT [NUM_KILLS], where PROJECT is a clone with small settings.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

MOST_LINES = 45  # of output before a kill: they come from every stage, most of them from training
LONGEST_SECONDS = 0.5  # from a line to the kill
BY_THE_CLOCK = ("/timing/", "results/figures", "results/ablation.", "results/report.html")  # differ from run to run
CLOCK_COLUMNS = ["seconds", "images_per_second"]
# Messages of DVC about its own records, which it does not write atomically -> the record
DVC_CORRUPTED = {"Unable to read RWLock-file": ".dvc/tmp/rwlock", "'./dvc.lock' ": "dvc.lock"}
# About its run cache: a folder without an entry yet, or with a partly written one as well
LEFT_BEHIND = ["join() argument must be str", "failed to reproduce 'aggregate': 'outs'", "' does not exist"]
# As the README says
REMOVAL = ["find", ".dvc/cache/runs", "(", "-name", "*.tmp", "-o", "-type", "d", "-empty", ")", "-delete"]


class Project:
    """A clone in which `dvc repro` is started, killed and started again; its output is in a file next to it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.log = folder.with_suffix(".log")

    def repro(self, kill_after_lines: int | None = None, and_seconds: float = 0.0) -> bool:
        """Run `dvc repro`; kill its whole process group at the given moment. Returns whether it finished."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while process.poll() is None:
            if kill_after_lines is not None and self.log.read_bytes().count(b"\n") >= kill_after_lines:
                time.sleep(and_seconds)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return False
            time.sleep(0.02)
        if process.returncode == 0:
            return True
        output = self.log.read_text()
        for message, record in DVC_CORRUPTED.items():
            if message in output:
                (self.folder / record).unlink()  # as the README says
                return self.repro(kill_after_lines, and_seconds)
        if any(message in output for message in LEFT_BEHIND):
            found = subprocess.run([*REMOVAL, "-print"], cwd=self.folder, check=True, capture_output=True, text=True)
            assert found.stdout, output
            return self.repro(kill_after_lines, and_seconds)
        raise RuntimeError(output)

    def resumed(self) -> int:
        """How many seeds the last `repro` resumed from a checkpoint."""
        return self.log.read_text().count(" resumes after epoch ")

    def outcome(self) -> dict[str, bytes]:
        """Every file of the runs and their aggregate that has to be the same on every run."""
        files = [path for part in ("runs", "results") for path in (self.folder / part).rglob("*") if path.is_file()]
        names = {str(path.relative_to(self.folder)): path for path in files}
        same = {n: path.read_bytes() for n, path in names.items() if not any(part in n for part in BY_THE_CLOCK)}
        table = pd.read_csv(self.folder / "results/ablation.csv", dtype=str).drop(columns=CLOCK_COLUMNS)
        return same | {"results/ablation.csv": table.to_csv(index=False).encode()}

    def start_over(self) -> None:
        """Forget all runs and DVC's record of them; the data stay."""
        for path in ("runs", "results", ".dvc/cache/runs", ".dvc/tmp/checkpoints"):
            shutil.rmtree(self.folder / path, ignore_errors=True)
        lock = self.folder / "dvc.lock"
        record = yaml.safe_load(lock.read_text())
        kept = {name: record["stages"][name] for name in ("configure", "download", "normalize")}
        lock.write_text(yaml.safe_dump(record | {"stages": kept}))


def kill_repeatedly(project: Project, num_kills: int, seed: int = 0) -> tuple[list[dict[str, bytes]], int]:
    """Kill `dvc repro` at random moments and start it again each time, from scratch if it had finished.

    Returns the outcomes of the runs that finished, the last one after the last kill, and the number of seeds resumed
    from a checkpoint.
    """
    moments = random.Random(seed)
    outcomes, killed, resumed = [], 0, 0
    while killed < num_kills or not outcomes:
        lines = moments.randrange(MOST_LINES) if killed < num_kills else None
        ended = project.repro(lines, moments.uniform(0, LONGEST_SECONDS))
        resumed += project.resumed()
        if ended:
            outcomes.append(project.outcome())
            project.start_over()
        else:
            killed += 1
    project.repro()
    return [*outcomes, project.outcome()], resumed


def main() -> None:
    project = Project(Path(sys.argv[1]).resolve(), dict(os.environ))
    num_kills = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    project.repro()
    project.start_over()
    project.repro()
    undisturbed = project.outcome()
    project.start_over()
    outcomes, resumed = kill_repeatedly(project, num_kills)
    same = sum(outcome == undisturbed for outcome in outcomes)
    print(f"{num_kills} kills, {resumed} seeds resumed, {len(outcomes)} runs to the end, {same} of them the same bytes")
    sys.exit(same != len(outcomes))


if __name__ == "__main__":
    main()
