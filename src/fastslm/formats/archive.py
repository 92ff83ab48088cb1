"""Take one member out of a zip archive (a wheel is one), believing nothing that the archive says.

The member is streamed to a temporary file beside the target, checked against its CRC and its declared size, synced
and renamed: the target is either absent or whole. Format: PKWARE APPNOTE, methods "stored" and "deflate" only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastslm.errors import DiskFull, FileMissing, FileSystemError, FormatError
from fastslm.progress import Progress, ProgressCallback, silent

CHUNK_BYTES = 1 << 20
MAX_MEMBERS = 100_000
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate"}
_ENCRYPTED_FLAG = 0x1
_LOCAL_BYTES = 30
"""Of the header before a member, without its name and extra field."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError, OverflowError)
"""What the standard library raises on damaged archives; ValueError includes text that is not UTF-8."""


@dataclass(frozen=True)
class Member:
    """One file of an archive; the size is what the archive declares."""

    name: str
    size_bytes: int


def list_members(archive: Path) -> tuple[Member, ...]:
    """Files of an archive in its order, folders left out.

    Raises:
        FileMissing, FileSystemError: the archive is not there or cannot be read.
        FormatError: it is not a zip archive, or its directory is damaged.
    """
    with _opened(archive) as opened:
        return tuple(Member(info.filename, info.file_size) for info in opened.infolist() if not info.is_dir())


def stored_members(archive: Path, most: int) -> dict[str, int]:
    """Name and size of every member of an archive that only stores: no compression, no folders, no name twice.

    Raises:
        FileMissing, FileSystemError, FormatError: as ``list_members``, or a member is not of this kind.
    """
    with _opened(archive) as opened:
        infos = opened.infolist()
        if len(infos) > most:
            message = f"`{archive}` has {len(infos)} members, expected at most {most}"
            raise FormatError(message, subject=str(archive), expected=most, found=len(infos))
        for info in infos:
            _check(info, archive, info.file_size)
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                _refuse(info, archive, "is compressed", expected="stored", found=info.compress_type)
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
        FileMissing, FileSystemError, FormatError: as ``stored_members``, or a member lies outside the file.
    """
    sizes = stored_members(archive, MAX_MEMBERS)
    with _opened(archive) as opened, archive.open("rb") as file:
        length, found = archive.stat().st_size, {}
        for info in opened.infolist():
            file.seek(info.header_offset)
            head = file.read(_LOCAL_BYTES)
            if len(head) < _LOCAL_BYTES or not head.startswith(b"PK\x03\x04"):
                _refuse(info, archive, "has no header", expected="PK", found=head[:4])
            begin = info.header_offset + _LOCAL_BYTES + sum(struct.unpack_from("<HH", head, _LOCAL_BYTES - 4))
            end = begin + sizes[info.filename]
            if end > length:
                _refuse(info, archive, "ends behind the archive", expected=length, found=end)
            found[info.filename] = (begin, end)
    return found


def extract_member(
    archive: Path, member: str, target: Path, *, max_bytes: int, progress: ProgressCallback = silent
) -> str:
    """Unpack one member to ``target``, replacing it; return the SHA-256 of the content in hex.

    Args:
        archive: the zip file.
        member: exact name inside the archive, with forward slashes.
        target: file to write; its folder must exist.
        max_bytes: refuse a member that declares or turns out to hold more.
        progress: told about every megabyte; may raise to cancel.

    Raises:
        FileMissing: archive or member is not there.
        FormatError: damaged, truncated, encrypted, too large, of an unknown method, or a name that leaves its folder.
        DiskFull, FileSystemError: the target cannot be written.
    """
    with _opened(archive) as opened:
        info = _find(opened, member, archive)
        _check(info, archive, max_bytes)
        _check_space(target, info.file_size)
        with _temporary(target) as (file, path):
            digest = _copy(opened, info, file, _Report(progress, archive))
            _publish(file, path, target)
    return digest


@dataclass(frozen=True)
class _Report:
    callback: ProgressCallback
    archive: Path

    def __call__(self, info: zipfile.ZipInfo, done: int) -> None:
        self.callback(Progress("unpacking", done, info.file_size, detail=info.filename))


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        file = archive.open("rb")
    except FileNotFoundError:
        raise FileMissing(f"`{archive}` does not exist", what="archive", name=str(archive)) from None
    except OSError as error:
        raise _refused(error, archive, "read") from error
    with file:
        try:
            opened = zipfile.ZipFile(file)
        except (*_DAMAGE, OSError) as error:
            message = f"`{archive}` is not a readable zip archive: {error}"
            raise FormatError(message, subject=str(archive)) from error
        with opened:
            if len(opened.infolist()) > MAX_MEMBERS:
                message = f"`{archive}` has {len(opened.infolist())} members, expected at most {MAX_MEMBERS}"
                raise FormatError(message, subject=str(archive), expected=MAX_MEMBERS)
            if not all(info.filename for info in opened.infolist()):  # the standard library trips over it
                raise FormatError(f"`{archive}` has a member without a name", subject=str(archive))
            yield opened


def _find(opened: zipfile.ZipFile, member: str, archive: Path) -> zipfile.ZipInfo:
    found = [info for info in opened.infolist() if info.filename == member]
    if not found:
        raise FileMissing(f"`{archive}` has no member `{member}`", what="member", name=member)
    if len(found) > 1:
        message = f"`{archive}` has {len(found)} members called `{member}`, expected one"
        raise FormatError(message, subject=member, expected=1, found=len(found))
    return found[0]


def _check(info: zipfile.ZipInfo, archive: Path, max_bytes: int) -> None:
    """Refuse what must not be unpacked, before a byte is read."""
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        _refuse(info, archive, "leaves its folder", expected="a relative path", found=info.filename)
    if info.is_dir() or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        _refuse(info, archive, "is not a plain file", expected="a file", found=oct(info.external_attr >> 16))
    if info.flag_bits & _ENCRYPTED_FLAG:
        _refuse(info, archive, "is encrypted", expected="no encryption", found="encrypted")
    if info.compress_type not in _METHODS:
        _refuse(info, archive, "is packed by an unknown method", expected="deflate", found=info.compress_type)
    if info.header_offset < 0:
        _refuse(info, archive, "lies before the archive", expected="an offset from 0", found=info.header_offset)
    if info.file_size > max_bytes:
        _refuse(info, archive, "is too large", expected=f"at most {max_bytes} bytes", found=info.file_size)


def _refuse(info: zipfile.ZipInfo, archive: Path, why: str, *, expected: object, found: object) -> None:
    message = f"member `{info.filename}` of `{archive}` {why}: found `{found}`, expected {expected}"
    raise FormatError(message, subject=info.filename, expected=expected, found=found)


def _check_space(target: Path, needed: int) -> None:
    try:
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise _refused(error, target.parent, "written") from error
    if free < needed:
        message = f"`{target.name}` needs {needed} bytes of disk space, `{target.parent}` has {free}"
        raise DiskFull(message, resource="disk", needed=needed, available=free)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside the target that is gone afterwards, unless it was renamed."""
    path = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        path.unlink(missing_ok=True)
        file = path.open("xb")
    except OSError as error:
        raise _refused(error, path, "written") from error
    try:
        with file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _copy(opened: zipfile.ZipFile, info: zipfile.ZipInfo, file: BinaryIO, report: _Report) -> str:
    """Stream the member into ``file``; the CRC is checked by zipfile when the end is reached."""
    digest, done = hashlib.sha256(), 0
    for chunk in _chunks(opened, info, report.archive):
        done += len(chunk)
        if done > info.file_size:
            break
        digest.update(chunk)
        try:
            file.write(chunk)
        except OSError as error:
            raise _refused(error, Path(file.name), "written", needed=info.file_size) from error
        report(info, done)
    if done != info.file_size:
        _refuse(info, report.archive, "has a wrong size", expected=f"{info.file_size} bytes", found=done)
    return digest.hexdigest()


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    try:
        with opened.open(info) as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except (*_DAMAGE, RuntimeError) as error:
        message = f"member `{info.filename}` of `{archive}` is damaged: {error}"
        raise FormatError(message, subject=info.filename) from error
    except OSError as error:
        raise _refused(error, archive, "read") from error


def _publish(file: BinaryIO, path: Path, target: Path) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
        path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _refused(error, target, "written") from error


def _refused(error: OSError, path: Path, action: str, *, needed: int = 0) -> DiskFull | FileSystemError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk is full: `{path}` cannot be written", resource="disk", needed=needed)
    message = f"`{path}` cannot be {action}: {error.strerror}"
    return FileSystemError(message, path=str(path), errno=error.errno or 0)
