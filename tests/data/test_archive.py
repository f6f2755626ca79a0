"""Stage download from local archives, whole and broken."""

import gzip
import hashlib
import re
import tarfile
import zlib
from pathlib import Path

import pytest

from ablation.data.archive import RECORDS_PER_FILE  # before the tests make it smaller
from ablation.data.params import NUM_TRAIN_IMAGES
from ablation.data.records import TRAIN_FILES, read_classes, read_test, read_train
from tests.data.small_archive import (
    BATCHES,
    CLASSES,
    CONTENTS,
    FOLDER,
    META,
    RECORDS,
    WHOLE,
    assert_nothing_left,
    assert_raw_is_whole,
    pack,
    records,
    regular,
    settings,
    special,
)

pytestmark = pytest.mark.usefixtures("small_archives")


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}", "file://localhost{}", "FILE:{}"])
def test_local_archive_is_used_in_place(stage, workspace, tmp_path, capsys, form):
    path = tmp_path / "my data.tar.gz"
    path.write_bytes(WHOLE)
    url = form.format(str(path).replace(" ", "%20") if form != "{}" else path)
    assert stage("download", settings(url)) is None
    assert_raw_is_whole(workspace)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my data.tar.gz", "workspace"]
    assert path.read_bytes() == WHOLE
    assert capsys.readouterr().out == f"data/raw: 50 training and 10 test images: from {url}\n"


def test_relative_path_and_what_is_read_back(stage, workspace):
    Path("archive.tar.gz").write_bytes(WHOLE)
    assert stage("download", settings("archive.tar.gz")) is None
    images, labels = read_train(workspace / "data/raw")
    test_images, test_labels = read_test(workspace / "data/raw")
    assert read_classes(workspace / "data/raw") == CLASSES
    for i, (image, label) in enumerate(
        [*zip(images, labels, strict=True), *zip(test_images, test_labels, strict=True)]
    ):
        record = CONTENTS[BATCHES[i // RECORDS]][i % RECORDS * 3073 :][:3073]
        assert label == record[0]
        assert image[1, 2, 3] == record[1 + 1024 + 2 * 32 + 3]  # green, third row, fourth column
        assert image.tobytes() == record[1:]


def test_extra_files_folders_and_dotted_paths_are_harmless(stage, workspace, tmp_path):
    data = pack(
        regular(f"{FOLDER}/readme.html", b"<html>"),
        special(FOLDER, tarfile.DIRTYPE),
        regular("other/test_batch.bin", b"x"),
    )
    (tmp_path / "a.tar.gz").write_bytes(data)
    assert stage("download", settings(tmp_path / "a.tar.gz", data)) is None
    assert_raw_is_whole(workspace)
    data = pack(*(regular(f"./{name}", content) for name, content in CONTENTS.items()), **dict.fromkeys(CONTENTS))
    (tmp_path / "a.tar.gz").write_bytes(data)
    assert stage("download", settings(tmp_path / "a.tar.gz", data)) is None
    assert_raw_is_whole(workspace)


def test_earlier_data_are_replaced_on_success_and_kept_on_failure(stage, workspace):
    Path("archive.tar.gz").write_bytes(WHOLE)

    def left(folder: str) -> None:
        Path(folder).mkdir(parents=True)
        Path(folder, "data_batch_9.bin").write_bytes(b"old")

    left("data/raw")
    assert stage("download", settings("archive.tar.gz", b"other"))
    assert [p.name for p in Path("data/raw").iterdir()] == ["data_batch_9.bin"]
    left("data/.raw.partial")
    assert stage("download", settings("archive.tar.gz")) is None
    assert_raw_is_whole(workspace)


def with_label(value):
    data = bytearray(CONTENTS[BATCHES[2]])
    data[3073 * 7] = value
    return bytes(data)


def damaged_inside():
    compressor = zlib.compressobj(1, wbits=31)
    start = compressor.compress(gzip.decompress(WHOLE)[:50_000])
    return start + compressor.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 100


DAMAGED = r"truncated or damaged archive: "
BROKEN = {
    "truncated": (WHOLE[:-5000], DAMAGED + "Compressed file ended before the end-of-stream marker was reached"),
    "truncated checksum": (WHOLE[:-6], DAMAGED + "Compressed file ended before the end-of-stream marker was reached"),
    "wrong checksum": (WHOLE[:-8] + bytes(4) + WHOLE[-4:], DAMAGED + "CRC check failed .*"),
    "not deflate": (WHOLE[:10] + b"\xff" * 100, DAMAGED + ".*Error -3 while decompressing data: invalid block type"),
    "damaged inside": (damaged_inside(), DAMAGED + ".*Error -3 while decompressing data: invalid block type"),
    "not gzip": (b"PK\3\4" + WHOLE, DAMAGED + r"Not a gzipped file \(b'PK'\)"),
    "empty": (b"", DAMAGED + "empty file"),
    "not tar": (gzip.compress(b"x" * 2000), DAMAGED + "(bad checksum|invalid header)"),
    "tar cut": (gzip.compress(gzip.decompress(WHOLE)[:100_000], 1), DAMAGED + "unexpected end of data"),
    "parent folder": (
        pack(regular("cifar-10-batches-bin/../../evil.bin", b"x")),
        r"member 'cifar-10-batches-bin/\.\./\.\./evil\.bin' lies outside the archive's own folder",
    ),
    "absolute": (pack(regular("/tmp/evil.bin", b"x")), "member '/tmp/evil.bin' lies outside the archive's own folder"),
    "symbolic link": (
        pack(special(BATCHES[5], tarfile.SYMTYPE, "/etc/passwd"), **{BATCHES[5]: None}),
        f"member '{BATCHES[5]}' is a symbolic link; only regular files and folders are allowed",
    ),
    "hard link": (
        pack(special(BATCHES[5], tarfile.LNKTYPE, BATCHES[0]), **{BATCHES[5]: None}),
        f"member '{BATCHES[5]}' is a hard link; only regular files and folders are allowed",
    ),
    "unexpected link": (
        pack(special(f"{FOLDER}/x\n", tarfile.SYMTYPE, "/etc")),
        rf"member '{FOLDER}/x\\n' is a symbolic link; only regular files and folders are allowed",
    ),
    "device": (
        pack(special(f"{FOLDER}/null", tarfile.CHRTYPE)),
        f"member '{FOLDER}/null' is a device or pipe; only regular files and folders are allowed",
    ),
    "pipe": (
        pack(special(f"{FOLDER}/pipe", tarfile.FIFOTYPE)),
        f"member '{FOLDER}/pipe' is a device or pipe; only regular files and folders are allowed",
    ),
    "missing": (
        pack(**{BATCHES[2]: None, META: None}),
        f"lacks {BATCHES[2]}, {META}; must be the binary version, cifar-10-binary.tar.gz",
    ),
    "twice": (pack(regular(BATCHES[0], CONTENTS[BATCHES[0]])), f"holds {BATCHES[0]} twice"),
    "short": (
        pack(**{BATCHES[1]: CONTENTS[BATCHES[1]][:-1]}),
        f"{BATCHES[1]}: 30,729 bytes; must be 30,730, 10 records",
    ),
    "long": (
        pack(**{BATCHES[5]: CONTENTS[BATCHES[5]] + records(9)}),
        f"{BATCHES[5]}: 61,460 bytes; must be 30,730, 10 records",
    ),
    "label": (
        pack(**{BATCHES[2]: with_label(10)}),
        rf"{BATCHES[2]}: record 7 \(counted from 0\): label 10; must be 0 to 9",
    ),
    "nine classes": (
        pack(**{META: b"\n".join(CONTENTS[META].split()[:9])}),
        f"{META}: 9 lines with 9 different names; must name 10 classes, one a line",
    ),
    "class twice": (
        pack(**{META: CONTENTS[META].replace(b"dog", b"cat")}),
        f"{META}: 10 lines with 9 different names; must name 10 classes, one a line",
    ),
    "classes in Latin-1": (
        pack(**{META: CONTENTS[META].replace(b"dog", b"d\xf6g")}),
        f"{META}: not UTF-8 text; must name 10 classes, one a line",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_archive(stage, workspace, tmp_path, case):
    data, message = BROKEN[case]
    path = tmp_path / "a.tar.gz"
    path.write_bytes(data)
    error = stage("download", settings(path, data))
    assert re.fullmatch(f"error: {re.escape(str(path))}: {message}", error), error
    assert_nothing_left(workspace)
    assert path.read_bytes() == data


def test_wrong_md5(stage, workspace, tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(WHOLE[:-1])
    assert stage("download", settings(path)) == (
        f"error: {path}: data.md5: expected {hashlib.md5(WHOLE).hexdigest()}, "
        f"found {hashlib.md5(WHOLE[:-1]).hexdigest()}; "
        "the archive is damaged, or is another one that needs its own data.md5 and data.label"
    )
    assert_nothing_left(workspace)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/a.tar.gz", "'ftp://host/a.tar.gz' must be an http:, https: or file: URL, or a path"),
        ("s3://bucket/a.tar.gz", "'s3://bucket/a.tar.gz' must be an http:, https: or file: URL, or a path"),
        ("file://data/a.tar.gz", "'file://data/a.tar.gz' names the host 'data'; must be file:/path/of/the/archive"),
        ("a.tar.gz", "a.tar.gz: no such file in {cwd}"),
        ("file:/no/a%20b", "/no/a b: no such file"),
        ("configs", "configs: is a folder; must be the archive itself"),
        ("~nobody-here/a", "~nobody-here/a: begins with the home of a user who is not known here"),
    ],
)
def test_impossible_url(stage, workspace, url, message):
    assert stage("download", settings(url)) == "error: data.url: " + message.format(cwd=workspace)
    assert_nothing_left(workspace)


def test_arguments_and_settings_are_checked(stage, workspace):
    assert stage("download", settings("a"), "--force", "x") == (
        "error: stages/download.py takes no arguments, got --force x; all settings are in params.yaml"
    )
    assert stage("download", settings("a") | {"md5": "c32a"}).startswith("error: configs/download.yaml: md5: 'c32a' ")
    assert_nothing_left(workspace)


@pytest.mark.usefixtures("small_archives")
def test_a_path_may_begin_at_home_and_an_md5_have_capitals(stage, workspace, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.tar.gz").write_bytes(WHOLE)
    capitals = {"md5": hashlib.md5(WHOLE).hexdigest().upper()}
    assert stage("download", settings("~/a.tar.gz") | capitals) is None
    assert_raw_is_whole(workspace)


def test_the_files_of_cifar10_hold_its_training_images() -> None:
    assert len(TRAIN_FILES) * RECORDS_PER_FILE == NUM_TRAIN_IMAGES["cifar10"]
