"""The CIFAR-10 binary archive: fetched or opened in place, checked, and unpacked member by member.

Downloads go through pooch's HTTPDownloader: it has a timeout, and a dropped connection is an error. torchvision's
download_url has no timeout and no retry, and writes to the final path, where a partial file may pass for the whole.
"""

import gzip
import hashlib
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote

import numpy as np
import pooch
import requests

from ablation.common.errors import InvalidInput
from ablation.common.files import write_bytes
from ablation.data.records import CLASSES_FILE, RECORD_BYTES, TEST_FILE, TRAIN_FILES, parse_classes, parse_records

NUM_TRIES = 3
WAIT_SECONDS = 2.0  # before the second try; twice as long before the third
TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; between two chunks of the response
RECORDS_PER_FILE = 10_000
FOLDER = "cifar-10-batches-bin"
MEMBERS = {f"{FOLDER}/{name}": name for name in (*TRAIN_FILES, TEST_FILE, CLASSES_FILE)}  # path in the archive -> file


def open_archive(url: str, folder: Path) -> IO[bytes]:
    """Open the archive at `url`: a local one (`file:` or a plain path) in place, one behind http(s): by download.

    A download goes to an unnamed temporary file on the disk of `folder`, which vanishes as soon as it is closed or the
    process ends, so that no partial download is left. Raises InvalidInput if there is no such archive or it cannot be
    fetched.
    """
    scheme, colon, rest = url.partition(":")
    match scheme.lower() if colon else "":
        case "http" | "https":
            return _download(url, folder)
        case "file":
            host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
            if host not in ("", "localhost"):
                raise InvalidInput(f"data.url: {url!r} names the host {host!r}; must be file:/path/of/the/archive")
            path = unquote(slash + path)
        case _ if "://" in url:
            raise InvalidInput(f"data.url: {url!r} must be an http:, https: or file: URL, or a path")
        case _:
            path = url
    try:
        return Path(path).expanduser().open("rb")
    except RuntimeError:  # of expanduser
        raise InvalidInput(f"data.url: {path}: begins with the home of a user who is not known here") from None
    except FileNotFoundError:
        where = "" if Path(path).expanduser().is_absolute() else f" in {Path.cwd()}"
        raise InvalidInput(f"data.url: {path}: no such file{where}") from None
    except IsADirectoryError:
        raise InvalidInput(f"data.url: {path}: is a folder; must be the archive itself") from None


def check_md5(file: IO[bytes], url: str, expected: str) -> None:
    """Raises InvalidInput unless the whole of `file` has the md5 `expected`. Leaves `file` at its start."""
    file.seek(0)
    found = hashlib.file_digest(file, "md5").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    if found != expected:
        raise InvalidInput(
            f"{url}: data.md5: expected {expected}, found {found}; "
            "the archive is damaged, or is another one that needs its own data.md5 and data.label"
        )


def unpack(file: IO[bytes], url: str, folder: Path) -> None:
    """Writes the six batch files and the class names of the gzipped tar `file` into `folder`, each checked.

    Nothing is ever written to a path that the archive names. Other regular files and folders in it are ignored.
    Raises InvalidInput, naming `url`, on a damaged archive, a member that is a link or device or lies outside the
    archive's own folder, a missing or repeated member, a batch of the wrong size, and a label that is not 0..9.
    """
    written: set[str] = set()
    try:
        # Not tarfile's own "r|gz", which does not verify the checksum at the end of the gzip stream.
        with gzip.open(file) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
            for member in tar:
                _check_safe(member, url)
                name = MEMBERS.get(str(PurePosixPath(member.name)))
                content = tar.extractfile(member)
                if name is None or content is None:
                    continue
                if name in written:
                    raise InvalidInput(f"{url}: holds {FOLDER}/{name} twice")
                _check_size(member, f"{url}: {FOLDER}/{name}")
                data = content.read()
                if name == CLASSES_FILE:
                    parse_classes(data, f"{url}: {FOLDER}/{name}")
                else:
                    parse_records(np.frombuffer(data, np.uint8), f"{url}: {FOLDER}/{name}")
                write_bytes(folder / name, data)
                written.add(name)
            while unzipped.read(1 << 20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise InvalidInput(f"{url}: truncated or damaged archive: {error}") from None
    missing = [path for path, name in MEMBERS.items() if name not in written]
    if missing:
        raise InvalidInput(f"{url}: lacks {', '.join(missing)}; must be the binary version, cifar-10-binary.tar.gz")


def _check_safe(member: tarfile.TarInfo, url: str) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise InvalidInput(f"{url}: member {member.name!r} lies outside the archive's own folder")
    if not (member.isreg() or member.isdir()):
        kind = "symbolic link" if member.issym() else "hard link" if member.islnk() else "device or pipe"
        raise InvalidInput(f"{url}: member {member.name!r} is a {kind}; only regular files and folders are allowed")


def _check_size(member: tarfile.TarInfo, where: str) -> None:
    expected = RECORDS_PER_FILE * RECORD_BYTES
    if not member.name.endswith(CLASSES_FILE) and member.size != expected:
        raise InvalidInput(f"{where}: {member.size:,} bytes; must be {expected:,}, {RECORDS_PER_FILE:,} records")


def _download(url: str, folder: Path) -> IO[bytes]:
    print(f"downloading {url}", flush=True)
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 18,
        timeout=TIMEOUT_SECONDS,
        headers={"Accept-Encoding": "identity"},  # the bytes as stored: the archive is compressed already
    )
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (the caller closes it)
    for number in range(1, NUM_TRIES + 1):
        try:
            download(url, file, None)
            return file
        except requests.RequestException as error:
            reason = str(_first_cause(error))
            final = error.response is not None and error.response.status_code < 500  # asking again would not help
        except OSError as error:
            error.filename = str(folder)  # such as a full disk: name a folder on it
            raise
        file.seek(0)
        file.truncate()
        if final or number == NUM_TRIES:
            break
        print(f"{reason}; trying again, {number + 1} of {NUM_TRIES}", flush=True)
        time.sleep(WAIT_SECONDS * number)
    file.close()
    raise InvalidInput(
        f"{url}: cannot be fetched ({reason}); give a local archive with "
        "dvc exp run -S data.url=/path/cifar-10-binary.tar.gz, "
        "or see the whole pipeline without a download with make demo"
    )


def _first_cause(error: BaseException) -> BaseException:
    """The root cause at the end of the exception chain, e.g. "Connection refused", without the layers around it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
