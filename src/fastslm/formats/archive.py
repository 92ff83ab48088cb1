"""Unpack archives, believing nothing that they say: gzip, zstd, zip (a wheel is one), tar, and tar in either.

The C++ core does it in one pass and refuses what leaves its folder, is a link, is damaged or would become too large.
It fills a hidden folder beside the target, which is renamed when everything is right: the target is absent or whole.
"""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastslm.errors import FileMissing, FormatError
from fastslm.progress import Progress, ProgressCallback, silent

if TYPE_CHECKING:
    from fastslm import _native

POLL_S = 0.1
MAX_MEMBERS = 100_000
_LOCAL_BYTES = 30
"""Of the header before a member, without its name and extra field."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError, OverflowError)
"""What the standard library raises on damaged archives; ValueError includes text that is not UTF-8."""


def is_archive(name: str) -> bool:
    """Whether a file of this name is packed, and in a way that we unpack."""
    from fastslm._native import archive_format

    return archive_format(name) is not None


def plain_name(name: str) -> str:
    """A file's name without what says how it is packed: ``m.gguf`` of ``m.gguf.zst``, ``m`` of ``m.tar.gz``."""
    while is_archive(name):
        name = name.rpartition(".")[0]
    return name


def unpack_options(
    name: str, folder: Path, *, max_bytes: int, only: Sequence[str] = (), format: _native.ArchiveFormat | None = None
) -> _native.UnpackOptions:
    """How the core shall unpack a file of this name into a folder that does not exist yet.

    Raises:
        FormatError: nobody knows how a file of this name is packed.
    """
    from fastslm import _native

    chosen = format or _native.archive_format(name)
    if chosen is None:
        raise FormatError(f"`{name}` is not an archive that fastslm reads", subject=name, expected="an archive")
    return _native.UnpackOptions(
        format=chosen,
        folder=str(folder),
        total_bytes=max(1, max_bytes),
        name=plain_name(name) if chosen in ("gzip", "zstd") else "",
        only=list(only),
        digests=True,
    )


def unpack(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int,
    only: Sequence[str] = (),
    format: _native.ArchiveFormat | None = None,
    progress: ProgressCallback = silent,
) -> dict[str, str]:
    """Unpack an archive into a new folder; return the SHA-256 of every file by its path in it.

    Args:
        archive: the packed file.
        folder: made by this; must not exist.
        max_bytes: refuse an archive that becomes larger.
        only: members to write; the others are checked all the same. All when empty.
        format: how it is packed; by default its name tells.
        progress: told ten times a second; may raise to cancel.

    Raises:
        FileMissing: the archive, or a member of ``only``, is not there.
        FormatError: damaged, truncated, encrypted, too large, of an unknown method, or with a member that is no plain
            file or leaves the folder; nothing of it is kept.
        DiskFull, FileSystemError: the archive cannot be read, or the folder not be written.
    """
    from fastslm import _native

    if not archive.exists():
        raise FileMissing(f"`{archive}` does not exist", what="archive", name=str(archive))
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    options = unpack_options(archive.name, scratch, max_bytes=max_bytes, only=only, format=format)
    try:
        found = _watched(_native.Unpacking(str(archive), options), archive, progress)
        missing = next((name for name in only if name not in found), None)
        if missing is not None:
            raise FileMissing(f"`{archive}` has no member `{missing}`", what="member", name=missing)
        scratch.rename(folder)
    except FormatError as error:
        raise _named(error, archive) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return found


def _watched(unpacking: _native.Unpacking, archive: Path, progress: ProgressCallback) -> dict[str, str]:
    try:
        while not unpacking.wait(POLL_S):
            progress(Progress("unpacking", unpacking.done_bytes, unpacking.size_bytes, detail=archive.name))
        found = {file.name: file.sha256 for file in unpacking.files()}
        progress(Progress("unpacking", unpacking.size_bytes, unpacking.size_bytes, detail=archive.name))
    except BaseException:  # also Ctrl-C: nothing is written any more when this returns
        unpacking.cancel()
        while not unpacking.wait(POLL_S):
            pass
        raise
    return found


def _named(error: FormatError, archive: Path) -> FormatError:
    """The same with the archive's name in it; the core knows bytes only."""
    return FormatError(
        f"`{archive}` cannot be unpacked: {error.message}",
        subject=error.subject,
        expected=error.expected,
        found=error.found,
    )


def stored_members(archive: Path, most: int) -> dict[str, int]:
    """Name and size of every member of a zip archive that only stores, as its directory tells; no name twice.

    Raises:
        FileMissing, FormatError: as ``unpack``, or a member is compressed.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
    except FileNotFoundError:
        raise FileMissing(f"`{archive}` does not exist", what="archive", name=str(archive)) from None
    except (*_DAMAGE, OSError) as error:
        raise FormatError(f"`{archive}` is not a readable zip archive: {error}", subject=str(archive)) from error
    if len(infos) > most:
        message = f"`{archive}` has {len(infos)} members, expected at most {most}"
        raise FormatError(message, subject=str(archive), expected=most, found=len(infos))
    for info in infos:
        if not info.filename or info.header_offset < 0:
            raise FormatError(f"`{archive}` has a member without a name or a place", subject=str(archive))
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            message = f"member `{info.filename}` of `{archive}` is compressed, expected stored"
            raise FormatError(message, subject=info.filename, expected="stored", found=info.compress_type)
    names = {info.filename: info.file_size for info in infos}
    total, size = sum(names.values()), archive.stat().st_size
    if total > size:  # members that share their bytes
        message = f"`{archive}` announces {total} bytes of members, but has {size}"
        raise FormatError(message, subject=str(archive), expected=size, found=total)
    if len(names) != len(infos):
        raise FormatError(f"`{archive}` has a member twice", subject=str(archive), expected=len(infos))
    return names


def stored_ranges(archive: Path) -> dict[str, tuple[int, int]]:
    """Where the bytes of every member lie in an archive that only stores: name to first byte and end.

    Raises:
        FileMissing, FormatError: as ``stored_members``, or a member has no name or lies outside the file.
    """
    sizes = stored_members(archive, MAX_MEMBERS)
    with zipfile.ZipFile(archive) as opened, archive.open("rb") as file:
        length, found = archive.stat().st_size, {}
        for info in opened.infolist():
            file.seek(max(info.header_offset, 0))
            head = file.read(_LOCAL_BYTES)
            if len(head) < _LOCAL_BYTES or not head.startswith(b"PK\x03\x04"):
                message = f"member `{info.filename}` of `{archive}` has no header: found `{head[:4]!r}`, expected PK"
                raise FormatError(message, subject=info.filename, expected="PK", found=head[:4])
            begin = info.header_offset + _LOCAL_BYTES + sum(struct.unpack_from("<HH", head, _LOCAL_BYTES - 4))
            end = begin + sizes[info.filename]
            if end > length:
                message = f"member `{info.filename}` of `{archive}` ends at byte {end}, expected at most {length}"
                raise FormatError(message, subject=info.filename, expected=length, found=end)
            found[info.filename] = (begin, end)
    return found
