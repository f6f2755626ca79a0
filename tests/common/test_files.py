import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from ablation.common.files import read_json, replacing, write_bytes, write_file, write_json, write_text
from ablation.common.settings import read_yaml, write_yaml


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_creates_folders_and_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"old and long")
    write_bytes(path, b"new")
    assert files_in(path.parent) == {"file.bin": b"new"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    with path.open("rb") as reader:
        write_file(path, write)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("old", [{}, {"file.bin": b"old"}])
def test_a_failed_writer_leaves_what_was_there(tmp_path, failure, old):
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)

    def write(file):
        file.write(b"half of the n")
        raise failure

    with pytest.raises(type(failure)) as raised:
        write_file(tmp_path / "file.bin", write)
    assert raised.value is failure
    assert files_in(tmp_path) == old


def test_file_system_errors_name_the_file_not_the_temporary_one(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(os, "fsync", no_space)
    for path in (tmp_path / "metrics.json", tmp_path / "file" / "metrics.json"):
        with pytest.raises(OSError, match=r"No space left|Not a directory|File exists") as raised:
            write_json(path, {})
        assert raised.value.filename == str(path)
    assert files_in(tmp_path) == {"file": b""}


@pytest.mark.parametrize("folders_sync", [True, False])
def test_what_was_renamed_is_on_disk_where_the_file_system_syncs_folders(tmp_path, monkeypatch, folders_sync):
    synced = []

    def fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, (tmp_path / "a.txt").exists()))
        if is_folder and not folders_sync:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "a")
    assert synced == [(False, False), (True, True)]
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_read_only_folder_names_the_file(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError) as raised:
        write_text(tmp_path / "a.txt", "a")
    assert raised.value.filename == str(tmp_path / "a.txt")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan(tmp_path, number):
    path = tmp_path / "metrics.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(path, {"seeds": [{"loss": number}]})
    assert files_in(tmp_path) == {"metrics.json": b'{\n  "loss": 1.0\n}\n'}


def test_json_and_yaml_keep_values_and_order(tmp_path):
    value = {"z": [1, 2.5, None, True], "a": {"ü": "×"}}
    write_json(tmp_path / "a.json", value)
    write_yaml(tmp_path / "a.yaml", value)
    for read in (read_json(tmp_path / "a.json"), read_yaml(tmp_path / "a.yaml")):
        assert read == value
        assert list(read) == ["z", "a"]


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.md", "82 × 30\n")
    assert (tmp_path / "a.md").read_bytes() == b"82 \xc3\x97 30\n"


def test_a_file_is_written_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file on another disk could not be renamed to it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no/such/folder"))
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_a_killed_process_left_of_a_folder_is_not_in_the_next_one(tmp_path):
    (tmp_path / ".splits.partial").mkdir()
    (tmp_path / ".splits.partial/stale").touch()
    with replacing(tmp_path / "splits") as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["splits", "new"]
