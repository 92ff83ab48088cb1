"""Write the seeds of the fuzz targets: ``python make_corpus.py``. What begins with ``good-`` must unpack."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import zstandard

HERE = Path(__file__).parent / "corpus"
TEXT = b"a small text that repeats: " * 12
FILES = {"model/config.json": b'{"a": 1}', "model/weights.bin": bytes(range(256)) * 3, "model/empty": b""}
WHEN = (2024, 2, 29, 0, 0, 0)


def write(folder: str, name: str, data: bytes) -> None:
    """One seed."""
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    (HERE / folder / name).write_bytes(data)


def make_gzip() -> None:
    """One member, two members, every header field, stored blocks."""
    plain = gzip.compress(TEXT, mtime=0)
    write("gzip", "good-one", plain)
    write("gzip", "good-two", plain + gzip.compress(b"second", mtime=0))
    write("gzip", "good-empty", gzip.compress(b"", mtime=0))
    packed = zlib.compressobj(0, zlib.DEFLATED, -15)
    body = packed.compress(TEXT) + packed.flush() + struct.pack("<II", zlib.crc32(TEXT), len(TEXT))
    head = b"\x1f\x8b\x08\x1e" + bytes(5) + b"\xff" + struct.pack("<H", 3) + b"abc" + b"name\0" + b"comment\0" + b"\1\2"
    write("gzip", "good-header", head + body)
    write("gzip", "flags", b"\x1f\x8b\x08\xe0" + plain[4:])


def make_zstd() -> None:
    """Sizes known and unknown, many frames, skippable frames, a seek table, one byte repeated."""
    known = zstandard.ZstdCompressor(level=3, write_checksum=True)
    unknown = zstandard.ZstdCompressor(level=3, write_content_size=False)
    one, other = known.compress(TEXT), unknown.compress(TEXT[:50])
    write("zstd", "good-one", one)
    write("zstd", "good-unknown", other)
    write("zstd", "good-many", one + other + known.compress(b"") + one)
    write("zstd", "good-zeros", known.compress(bytes(5000)))
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    write("zstd", "good-skippable", skippable + one + skippable)
    entries = struct.pack("<IIII", len(one), len(TEXT), len(other), 50)
    table = entries + struct.pack("<IBI", 2, 0, 0x8F92EAB1)
    write("zstd", "good-table", one + other + struct.pack("<II", 0x184D2A5E, len(table)) + table)
    wrong = table.replace(struct.pack("<I", 50), struct.pack("<I", 51))
    write("zstd", "table", one + other + struct.pack("<II", 0x184D2A5E, len(wrong)) + wrong)


class _Unseekable(io.RawIOBase):
    """Makes zipfile write data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """To the end."""
        self.data += data
        return len(data)


def zipped(method: int, *, wide: bool = False, stream: bool = False) -> bytes:
    """The files in a zip archive."""
    out = _Unseekable() if stream else io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # type: ignore[arg-type]
        archive.writestr(zipfile.ZipInfo("model/", WHEN), b"")
        for name, content in FILES.items():
            info = zipfile.ZipInfo(name, WHEN)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=wide) as file:
                file.write(content)
    return bytes(out.data) if isinstance(out, _Unseekable) else out.getvalue()


def make_zip() -> None:
    """Both methods, ZIP64, data descriptors, and what must be refused."""
    write("zip", "good-stored", zipped(zipfile.ZIP_STORED))
    write("zip", "good-deflated", zipped(zipfile.ZIP_DEFLATED))
    write("zip", "good-wide", zipped(zipfile.ZIP_DEFLATED, wide=True))
    write("zip", "good-stream", zipped(zipfile.ZIP_DEFLATED, stream=True))
    write("zip", "good-wide-stream", zipped(zipfile.ZIP_DEFLATED, wide=True, stream=True))
    write("zip", "good-empty", b"PK\5\6" + bytes(18))
    write("zip", "bzip2", zipped(zipfile.ZIP_BZIP2))


def tarred(form: int, name: str = "") -> bytes:
    """The files in a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("./model")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for path, content in FILES.items():
            info = tarfile.TarInfo(name + path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    data = out.getvalue()
    used = len(data.rstrip(b"\0"))
    return data[: used - used % 512 + 3 * 512]  # without the padding to whole records


def make_tar() -> None:
    """The three formats, long names, and a link."""
    long = "a-rather-long-folder-name/" * 6
    for form, title in ((tarfile.USTAR_FORMAT, "ustar"), (tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")):
        write("tar", f"good-{title}", tarred(form))
        if form != tarfile.USTAR_FORMAT:
            write("tar", f"good-{title}-long", tarred(form, long))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    write("tar", "link", out.getvalue())


def make_journal() -> None:
    """Two journals as the engine writes them, see csrc/fetch/state/journal.hpp."""
    spans = [(0, 64, 7), (64, 100, 2**64 - 1), (300, 301, 0)]
    for title, identity in (("one", b"etag\nhash"), ("bare", b"x")):
        body = b"FSLMJRNL" + struct.pack("<IQQ", 4, 1000, 64) + struct.pack("<I", len(identity)) + identity
        body += struct.pack("<QI", 64, 3) + b"a\0b" + struct.pack("<I", 1) + struct.pack("<QQ", 0, 64)
        body += struct.pack("<I", 2) + struct.pack("<QQQQ", 4, 20, 32, 60)
        body += struct.pack("<I", len(spans)) + b"".join(struct.pack("<QQQ", *span) for span in spans)
        write("journal", title, body + struct.pack("<I", zlib.crc32(body)))


def make_response() -> None:
    """Heads that servers send, and bare header values."""
    write("response", "part", b"206\ncontent-range: bytes 100-199/1000\ncontent-length: 100\n")
    write("response", "whole", b"200\ncontent-length: 1000\n")
    write("response", "busy", b'429\nratelimit: "api";r=0;t=17\nretry-after: 120\n')
    write("response", "late", b"503\nretry-after: Wed, 21 Oct 2026 07:28:00 GMT\n")
    write("response", "redirect", b"302\nlocation: https://cdn.host/a/b?sig=1#x\n")
    write("response", "relative", b"307\nlocation: ../other/file?x=y\n")
    write("response", "downgrade", b"301\nlocation: http://host/file\n")
    write("response", "range", b"bytes 0-0/1")
    write("response", "huge", b"bytes 18446744073709551614-18446744073709551615/*")


def make_planes() -> None:
    """Frames of a file's bytes from 7 on, packed by the extension, of every width and phase."""
    from fastslm import _native

    falling = b"".join(struct.pack("<f", 1 / (1 + n)) for n in range(300))
    for width, lead in ((1, 0), (2, 0), (2, 1), (4, 0), (4, 3)):
        frame = _native.pack_frame(falling, offset=7, width=width, lead=lead)
        write("planes", f"good-{width}-{lead}", frame)
    first = _native.pack_frame(falling, offset=7, width=4, lead=0)
    write("planes", "two", first + _native.pack_frame(falling, offset=7 + len(falling), width=2, lead=1))
    write("planes", "zeros", _native.pack_frame(bytes(5000), offset=7, width=4, lead=0))


if __name__ == "__main__":
    for make in (make_gzip, make_zstd, make_zip, make_tar, make_journal, make_planes, make_response):
        make()
