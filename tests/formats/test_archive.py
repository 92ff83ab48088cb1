"""Unpacking archives: what Python's own modules pack comes out as it was, whole and right, or nothing at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_files import bounded_memory

from fastslm.errors import Cancelled, FileMissing, FileSystemError, FormatError
from fastslm.formats.archive import is_archive, plain_name, stored_members, stored_ranges, unpack

LIMIT = 1 << 26
FILES = {
    "model/config.json": b'{"model_type": "llama"}',
    "model/weights.bin": random.Random(1).randbytes(300_000) + bytes(range(256)) * 3000,
    "model/empty": b"",
    "README.md": b"# read me\n" * 50,
}


class Unseekable(io.BytesIO):
    """As a socket: zipfile then puts CRC and sizes behind each member."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def zipped(files: Mapping[str, bytes], method: int, *, wide: bool = False, target: io.BytesIO | None = None) -> bytes:
    out = target or io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=wide) as file:
                file.write(content)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zst(data: bytes, frame: int = 1 << 30) -> bytes:
    packer = zstandard.ZstdCompressor()
    return b"".join(packer.compress(data[at : at + frame]) for at in range(0, len(data), frame)) or packer.compress(b"")


def zst_without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(data)


PACKERS: dict[str, tuple[str, Callable[[Mapping[str, bytes]], bytes]]] = {
    "stored": ("a.zip", lambda files: zipped(files, zipfile.ZIP_STORED)),
    "deflated": ("a.whl", lambda files: zipped(files, zipfile.ZIP_DEFLATED)),
    "zip64": ("a.zip", lambda files: zipped(files, zipfile.ZIP_DEFLATED, wide=True)),
    "zip stream": ("a.zip", lambda files: zipped(files, zipfile.ZIP_DEFLATED, target=Unseekable())),
    "zip64 stream": ("a.zip", lambda files: zipped(files, zipfile.ZIP_DEFLATED, wide=True, target=Unseekable())),
    "ustar": ("a.tar", lambda files: tarred(files, tarfile.USTAR_FORMAT)),
    "gnu": ("a.tar", lambda files: tarred(files, tarfile.GNU_FORMAT)),
    "pax": ("a.tar", lambda files: tarred(files)),
    "tar.gz": ("a.tar.gz", lambda files: gzip.compress(tarred(files))),
    "tgz": ("a.tgz", lambda files: gzip.compress(tarred(files), 1)),
    "tar.zst": ("a.tar.zst", lambda files: zst(tarred(files))),
    "tar.zst frames": ("a.tar.zst", lambda files: zst(tarred(files), 10_000)),
}
SINGLE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gz": ("m.gguf.gz", lambda data: gzip.compress(data)),
    "gz stored": ("m.gguf.gz", lambda data: gzip.compress(data, 0)),
    "gz members": ("m.gguf.gz", lambda data: gzip.compress(data[:77]) + gzip.compress(data[77:])),
    "zst": ("m.gguf.zst", zst),
    "zst frames": ("m.gguf.zst", lambda data: zst(data, 1000)),
    "zst without size": ("m.gguf.zst", zst_without_size),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def only_the_archive_is_left(folder: Path, archive: Path) -> bool:
    return [path.name for path in folder.iterdir()] == [archive.name]


@pytest.mark.parametrize("kind", PACKERS)
def test_every_container_gives_its_files_back(tmp_path: Path, kind: str) -> None:
    """With the SHA-256 of each."""
    name, pack = PACKERS[kind]
    archive = tmp_path / name
    archive.write_bytes(pack(FILES))
    digests = unpack(archive, tmp_path / "out", max_bytes=LIMIT)
    assert contents(tmp_path / "out") == FILES
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out"])


@pytest.mark.parametrize("kind", SINGLE)
@given(data=st.binary(max_size=5000) | st.builds(lambda seed: random.Random(seed).randbytes(4000) * 40, st.integers()))
@settings(max_examples=15)
def test_what_is_packed_alone_comes_out_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: bytes
) -> None:
    """Under its name without the ending."""
    folder = tmp_path_factory.mktemp("single")
    name, pack = SINGLE[kind]
    (folder / name).write_bytes(pack(data))
    unpack(folder / name, folder / "out", max_bytes=LIMIT)
    assert contents(folder / "out") == {"m.gguf": data}


def test_names_tell_what_is_packed() -> None:
    """The endings, whatever their case."""
    assert [plain_name(name) for name in ("m.gguf.GZ", "m.tar.zst", "a-1.0.whl", "m.tgz")] == [
        "m.gguf",
        "m",
        "a-1.0",
        "m",
    ]
    assert not any(is_archive(name) for name in ("m.gguf", "gz", ".zip", "m.7z", "m.safetensors"))


def test_only_what_was_asked_for_is_written_and_all_is_checked(tmp_path: Path) -> None:
    """A damaged member spoils the archive, wanted or not."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(FILES, zipfile.ZIP_STORED))
    assert list(unpack(archive, tmp_path / "out", max_bytes=LIMIT, only=["README.md"])) == ["README.md"]
    assert contents(tmp_path / "out") == {"README.md": FILES["README.md"]}
    with pytest.raises(FileMissing, match="has no member `nope`"):
        unpack(archive, tmp_path / "other", max_bytes=LIMIT, only=["nope"])
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"llama", b"lamas"))
    with pytest.raises(FormatError, match=r"config\.json` is damaged"):
        unpack(archive, tmp_path / "other", max_bytes=LIMIT, only=["README.md"])


def test_progress_is_told_and_may_cancel(tmp_path: Path) -> None:
    """Whoever cancels finds nothing."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(tarred(FILES))
    seen = []
    unpack(archive, tmp_path / "out", max_bytes=LIMIT, progress=seen.append)
    assert (seen[-1].stage, seen[-1].done, seen[-1].total) == (
        "unpacking",
        archive.stat().st_size,
        archive.stat().st_size,
    )

    def cancel(_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        unpack(archive, tmp_path / "other", max_bytes=LIMIT, progress=cancel)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out"]


def test_missing_things_are_named(tmp_path: Path) -> None:
    """No archive, no archive by its name, no room for its folder."""
    with pytest.raises(FileMissing, match="does not exist"):
        unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=LIMIT)
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(FormatError, match="not an archive that fastslm reads"):
        unpack(tmp_path / "a.rar", tmp_path / "out", max_bytes=LIMIT)
    (tmp_path / "a.tar").write_bytes(tarred(FILES))
    with pytest.raises(FileSystemError):
        unpack(tmp_path / "a.tar", tmp_path / "no-folder" / "out", max_bytes=LIMIT)


BOMBS = {
    "a.zip": lambda zeros: zipped({"x": zeros}, zipfile.ZIP_DEFLATED),
    "a.gz": gzip.compress,
    "a.zst": zst,
    "a.tar.zst": lambda zeros: zst(tarred({"x": zeros})),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, name: str) -> None:
    """Forty megabytes of zeros in a few kilobytes."""
    archive = tmp_path / name
    archive.write_bytes(BOMBS[name](bytes(40 << 20)))
    with bounded_memory(), pytest.raises(FormatError, match=r"more than 1000000 bytes"):
        unpack(archive, tmp_path / "out", max_bytes=1_000_000)
    assert only_the_archive_is_left(tmp_path, archive)


def test_a_bomb_is_stopped_by_its_ratio_however_much_room_there_is(tmp_path: Path) -> None:
    """No model packs a thousand bytes into one."""
    archive = tmp_path / "a.zst"
    archive.write_bytes(zst(bytes(100 << 20)))
    with pytest.raises(FormatError, match="expected at most 1000 for one"):
        unpack(archive, tmp_path / "out", max_bytes=1 << 40)
    assert only_the_archive_is_left(tmp_path, archive)


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    """In both headers; more or less than it says."""
    for said in (100, 1 << 20):
        archive = tmp_path / "a.zip"
        data = zipped({"x": bytes(77_777)}, zipfile.ZIP_DEFLATED)
        assert data.count(struct.pack("<I", 77_777)) == 2
        archive.write_bytes(data.replace(struct.pack("<I", 77_777), struct.pack("<I", said)))
        with pytest.raises(FormatError, match=r"wrong size|damaged"):
            unpack(archive, tmp_path / "out", max_bytes=LIMIT)
        assert only_the_archive_is_left(tmp_path, archive)


ESCAPES = ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:x", "a/..", "x" * 300, "a\nb"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_leave_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    """In a zip and in a tar, before or behind good members."""
    for archive, data in {
        tmp_path / "a.zip": zipped({"good": b"1", name: b"x"}, zipfile.ZIP_DEFLATED),
        tmp_path / "a.tar": tarred({name: b"x", "good": b"1"}),
    }.items():
        archive.write_bytes(data)
        with pytest.raises(FormatError):
            unpack(archive, tmp_path / "out", max_bytes=LIMIT)
        assert only_the_archive_is_left(tmp_path, archive)
        archive.unlink()


def test_doubles_and_names_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    """One of them would be lost, on this machine or on another."""
    for second in ("model/config.json", "model/CONFIG.json", "Model/other", "model/config.json/x"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in ("model/config.json", second):
                archive.addfile(tarfile.TarInfo(name))
        (tmp_path / "a.tar").write_bytes(out.getvalue())
        with pytest.raises(FormatError, match=r"twice|case"):
            unpack(tmp_path / "a.tar", tmp_path / "out", max_bytes=LIMIT)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tar_members_that_are_no_files_are_refused(tmp_path: Path, kind: bytes) -> None:
    """Links, devices and pipes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("x")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    with pytest.raises(FormatError, match="is not a plain file"):
        unpack(tmp_path / "a.tar", tmp_path / "out", max_bytes=LIMIT)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    """Only the directory at the end tells that it is one."""
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(FormatError, match="is not a plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=LIMIT)
    assert only_the_archive_is_left(tmp_path, tmp_path / "a.zip")


def with_field(data: bytes, offsets: tuple[int, int], value: bytes) -> bytes:
    """Overwrite a field in the local header and in the directory of an archive with one member."""
    changed = bytearray(data)
    for base, offset in ((0, offsets[0]), (changed.rindex(b"PK\x01\x02"), offsets[1])):
        changed[base + offset : base + offset + len(value)] = value
    return bytes(changed)


def test_encryption_and_other_methods_are_refused_in_one_sentence(tmp_path: Path) -> None:
    """With what was found and what was expected."""
    archive = tmp_path / "a.zip"
    one = zipped({"x": b"x"}, zipfile.ZIP_DEFLATED)
    archive.write_bytes(with_field(one, (6, 8), struct.pack("<H", 1)))
    with pytest.raises(FormatError, match="`x` is encrypted: found `encryption`, expected none"):
        unpack(archive, tmp_path / "out", max_bytes=LIMIT)
    archive.write_bytes(zipped({"x": b"x"}, zipfile.ZIP_BZIP2))
    with pytest.raises(FormatError, match="`x` is packed by an unknown method: found `12`, expected deflate"):
        unpack(archive, tmp_path / "out", max_bytes=LIMIT)


def test_headers_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """What other programs read from the directory is what we unpacked, or nothing."""
    archive = tmp_path / "a.zip"
    data = zipped({"safe": b"x" * 50}, zipfile.ZIP_DEFLATED)
    at = data.rindex(b"PK\x01\x02")
    for where, value in ((46, b"evil"), (16, b"\0\0\0\1"), (24, struct.pack("<I", 51)), (42, struct.pack("<I", 1))):
        changed = data[: at + where] + value + data[at + where + len(value) :]
        archive.write_bytes(changed)
        with pytest.raises(FormatError):
            unpack(archive, tmp_path / "out", max_bytes=LIMIT)
    for garbage in (data + b"x", b"x" + data, data[: data.rindex(b"PK\x05\x06")] + b"PK\x05\x06" + bytes(18)):
        archive.write_bytes(garbage)
        with pytest.raises(FormatError):
            unpack(archive, tmp_path / "out", max_bytes=LIMIT)
    assert only_the_archive_is_left(tmp_path, archive)


def test_a_seek_table_that_lies_is_refused(tmp_path: Path) -> None:
    """Found by the frames themselves; a right one is no hindrance."""
    frames = [zst(b"a" * 1000), zst(b"b" * 500)]
    for sizes, good in (((1000, 500), True), ((1000, 501), False), ((1000,), False)):
        entries = b"".join(struct.pack("<II", len(frame), size) for frame, size in zip(frames, sizes, strict=False))
        table = entries + struct.pack("<IBI", len(sizes), 0, 0x8F92EAB1)
        archive = tmp_path / "a.zst"
        archive.write_bytes(b"".join(frames) + struct.pack("<II", 0x184D2A5E, len(table)) + table)
        if good:
            unpack(archive, tmp_path / "out", max_bytes=LIMIT)
            continue
        with pytest.raises(FormatError, match="seek table"):
            unpack(archive, tmp_path / "other", max_bytes=LIMIT)


@pytest.mark.parametrize("kind", ["deflated", "tar.gz", "tar.zst frames"])
def test_archives_cut_or_damaged_anywhere_give_a_refusal_or_the_right_bytes(tmp_path: Path, kind: str) -> None:
    """Never wrong content, never another exception, never a leftover."""
    rng = random.Random(2)
    name, pack = PACKERS[kind]
    files = {"x": rng.randbytes(600), "y": b"z" * 99}
    archive, whole = tmp_path / name, pack(files)
    variants = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 80))]
    for _ in range(80):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        variants.append(bytes(damaged))
    for number, variant in enumerate(variants):
        archive.write_bytes(variant)
        out = tmp_path / f"out{number}"
        try:
            unpack(archive, out, max_bytes=LIMIT)
        except FormatError:
            assert only_the_archive_is_left(tmp_path, archive)
            continue
        if kind != "tar.zst frames":  # no checksum of the content, so that a changed bit may show
            assert contents(out) == files
        for path in (*out.iterdir(), out):
            path.unlink() if path.is_file() else path.rmdir()


def test_members_of_a_bundle_are_listed_and_nothing_else(tmp_path: Path) -> None:
    """Stored ones, each once."""
    archive = tmp_path / "b"
    archive.write_bytes(zipped({"a": b"1", "b": b""}, zipfile.ZIP_STORED))
    assert stored_members(archive, 2) == {"a": 1, "b": 0}
    with pytest.raises(FormatError, match="2 members, expected at most 1"):
        stored_members(archive, 1)
    archive.write_bytes(zipped({"a": b"1" * 99}, zipfile.ZIP_DEFLATED))
    with pytest.raises(FormatError, match="is compressed"):
        stored_members(archive, 9)
    archive.write_bytes(b"no archive at all")
    with pytest.raises(FormatError, match="not a readable zip archive"):
        stored_members(archive, 9)
    with pytest.raises(FileMissing):
        stored_members(tmp_path / "none", 9)


def test_a_stored_member_without_a_name_is_refused(tmp_path: Path) -> None:
    """A name that begins with a zero byte is no name, to the standard library either."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("xyz", b"content")
    path = tmp_path / "b.zip"
    path.write_bytes((tmp_path / "a.zip").read_bytes().replace(b"xyz", b"\0yz"))
    with pytest.raises(FormatError, match="has a member without a name"):
        stored_ranges(path)
