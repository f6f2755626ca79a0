"""A small archive in the layout of CIFAR-10, whole or with something wrong in it."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np

RECORDS = 10
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDER = "cifar-10-batches-bin"
BATCHES = [f"{FOLDER}/data_batch_{i}.bin" for i in range(1, 6)] + [f"{FOLDER}/test_batch.bin"]
META = f"{FOLDER}/batches.meta.txt"


def records(seed):
    random = np.random.default_rng(seed)
    return b"".join(bytes([random.integers(10)]) + random.bytes(3072) for _ in range(RECORDS))


CONTENTS = {META: "\n".join(CLASSES).encode() + b"\n\n", **{name: records(i) for i, name in enumerate(BATCHES)}}


def regular(name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def pack(*extra, **changed):
    """A gzipped tar of the official members, some with changed content (None: left out), and extra ones at the end."""
    members = [regular(name, changed.get(name, data)) for name, data in CONTENTS.items() if changed.get(name, data)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for member, data in (*members, *extra):
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


WHOLE = pack()


def settings(url, data=WHOLE):
    return {"source": "cifar10", "url": str(url), "md5": hashlib.md5(data).hexdigest()}


def assert_raw_is_whole(workspace):
    assert {p.name: p.read_bytes() for p in (workspace / "data/raw").iterdir()} == {
        Path(name).name: data for name, data in CONTENTS.items()
    }
    assert [p.name for p in (workspace / "data").iterdir()] == ["raw"]


def assert_nothing_left(workspace):
    assert not (workspace / "data").exists() or list((workspace / "data").iterdir()) == []
