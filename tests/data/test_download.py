"""Stage download over HTTP: a server that answers, fails, drops or stalls; what a kill or a full disk leaves."""

import hashlib
import http.server
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import yaml

from ablation.data import archive
from tests.data.small_archive import WHOLE, assert_nothing_left, assert_raw_is_whole, settings

pytestmark = pytest.mark.usefixtures("small_archives")

ADVICE = (
    "give a local archive with dvc exp run -S data.url=/path/cifar-10-binary.tar.gz, "
    "or see the whole pipeline without a download with make demo"
)


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and all further ones with the last."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.num_requests, self.released = ["whole"], 0, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/cifar-10-binary.tar.gz"

    def handle_error(self, request, client_address):
        pass  # a client that gave up is part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        answer = self.server.answers[min(self.server.num_requests, len(self.server.answers) - 1)]
        self.server.num_requests += 1
        if answer == "slow":
            self.server.released.wait(30)
        if isinstance(answer, int):
            return self.send_error(answer)
        self.send_response(200)
        self.send_header("Content-Length", str(len(WHOLE)))
        self.end_headers()
        self.wfile.write(WHOLE if answer == "whole" else WHOLE[:70_000])
        if answer == "stalls":
            self.wfile.flush()
            self.server.released.wait(30)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def test_download(stage, workspace, server, capfd):
    assert stage("download", settings(server.url)) is None
    assert_raw_is_whole(workspace)
    out, err = capfd.readouterr()
    assert out == f"downloading {server.url}\ndata/raw: 50 training and 10 test images: from {server.url}\n"
    assert err == "", "no progress bar where there is no terminal"


@pytest.mark.parametrize(
    ("answers", "reasons"),
    [
        ([503, "whole"], ["503 Server Error: Service Unavailable for url: {url}"]),
        (["drops", "whole"], ["IncompleteRead(70000 bytes read, {rest} more expected)"]),
        (["drops", 500, "whole"], ["IncompleteRead(70000 bytes read, {rest} more expected)", "500 Server Error: .*"]),
    ],
)
def test_another_try_starts_clean(stage, workspace, server, capfd, answers, reasons):
    server.answers = answers
    assert stage("download", settings(server.url)) is None
    assert_raw_is_whole(workspace)
    assert server.num_requests == len(answers)
    lines = capfd.readouterr().out.splitlines()[1:-1]
    for i, (line, reason) in enumerate(zip(lines, reasons, strict=True)):
        expected = reason.format(url=server.url, rest=len(WHOLE) - 70_000)
        pattern = re.escape(expected).replace(re.escape(".*"), ".*")
        assert re.fullmatch(pattern + f"; trying again, {i + 2} of 3", line), line


@pytest.mark.parametrize(
    ("answers", "reason", "num_requests"),
    [
        ([404], "404 Client Error: Not Found for url: {url}", 1),
        ([500], "500 Server Error: Internal Server Error for url: {url}", 3),
        (["drops"], "IncompleteRead(70000 bytes read, {rest} more expected)", 3),
        (["slow"], "timed out", 3),
        (["stalls"], "timed out", 3),
    ],
)
def test_failed_download(stage, workspace, server, monkeypatch, answers, reason, num_requests):
    if reason == "timed out":
        monkeypatch.setattr(archive, "TIMEOUT_SECONDS", (1, 0.2))
    server.answers = answers
    reason = reason.format(url=server.url, rest=len(WHOLE) - 70_000)
    assert stage("download", settings(server.url)) == f"error: {server.url}: cannot be fetched ({reason}); {ADVICE}"
    deadline = time.monotonic() + 20  # the last request may be counted after the stage has given up on it
    while server.num_requests < num_requests and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.num_requests == num_requests
    assert_nothing_left(workspace)


def test_no_network(stage, workspace):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and no one listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.tar.gz"
        error = stage("download", settings(url))
    assert re.fullmatch(rf"error: {url}: cannot be fetched \(\[Errno \d+\] Connection refused\); {ADVICE}", error), (
        error
    )
    assert_nothing_left(workspace)


def test_wrong_md5_is_not_asked_for_again(stage, workspace, server):
    error = stage("download", settings(server.url, b"other"))
    assert error.startswith(f"error: {server.url}: data.md5: expected {hashlib.md5(b'other').hexdigest()}, found ")
    assert server.num_requests == 1
    assert_nothing_left(workspace)


def test_full_disk_names_the_folder_or_file(stage, workspace, server):
    Path("archive.tar.gz").write_bytes(WHOLE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        while_downloading = stage("download", settings(server.url))
        while_unpacking = stage("download", settings("archive.tar.gz"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert while_downloading == "error: data/.raw.partial: File too large"
    assert while_unpacking == "error: data/.raw.partial/data_batch_1.bin: File too large"
    assert_nothing_left(workspace)


def test_killed_download_leaves_nothing_to_mistake(stage, workspace, server):
    server.answers = ["stalls", "whole"]
    (workspace / "configs/download.yaml").write_text(yaml.safe_dump(settings(server.url)))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    process = subprocess.Popen(
        [sys.executable, root / "stages/download.py"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == f"downloading {server.url}\n"
    deadline = time.monotonic() + 20
    while server.num_requests == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert server.num_requests == 1
    assert [p for p in (workspace / "data").rglob("*") if p.is_file()] == []
    assert stage("download", settings(server.url)) is None
    assert_raw_is_whole(workspace)


def test_script_ends_with_one_line_and_status_1_and_without_scikit_learn(workspace):
    (workspace / "configs/download.yaml").write_text(yaml.safe_dump(settings("a.tar.gz")))
    root = Path(__file__).parents[2]
    code = (
        "import runpy, sys\n"
        f"try: runpy.run_path({str(root / 'stages/download.py')!r}, run_name='__main__')\n"
        "finally: assert not {'sklearn', 'torch', 'torchvision'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: data.url: a.tar.gz: no such file in {workspace}\n"


@pytest.mark.usefixtures("small_archives")
def test_a_second_try_waits_and_a_third_twice_as_long(stage, workspace, server, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(archive, "WAIT_SECONDS", 2.0)
    monkeypatch.setattr(archive.time, "sleep", waits.append)
    server.answers = [503]
    assert stage("download", settings(server.url))
    assert waits == [2.0, 4.0]


@pytest.mark.usefixtures("small_archives")
def test_a_try_that_wrote_some_leaves_nothing_to_the_next(stage, workspace, server, monkeypatch) -> None:
    """It fails after more than one chunk: of less, nothing would have been written."""

    def do_GET(handler):  # noqa: N802 - as http.server names it
        handler.server.num_requests += 1
        content = WHOLE if handler.server.num_requests > 1 else bytes(600_000)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(WHOLE) if content is WHOLE else 10**6))
        handler.end_headers()
        handler.wfile.write(content)

    monkeypatch.setattr(Handler, "do_GET", do_GET)
    assert stage("download", settings(server.url)) is None
    assert_raw_is_whole(workspace)
    assert server.num_requests == 2


@pytest.mark.usefixtures("small_archives")
def test_the_bytes_are_asked_for_as_stored_and_kept_beside_the_data(stage, workspace, server, monkeypatch) -> None:
    """A server that could would have the archive unpacked in transit, and /tmp may be too small for it."""
    asked = []
    do_get = Handler.do_GET

    def do_GET(handler):  # noqa: N802 - as http.server names it
        asked.append(handler.headers["Accept-Encoding"])
        do_get(handler)

    monkeypatch.setattr(Handler, "do_GET", do_GET)
    monkeypatch.setattr(tempfile, "tempdir", str(workspace / "no/such/folder"))
    assert stage("download", settings(server.url)) is None
    assert asked == ["identity"]
