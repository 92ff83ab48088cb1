"""Typed face of the compiled extension; a test holds it against the module.

Every call that may take longer than a moment releases the GIL. Errors are the classes of ``fastslm.errors``.
"""

from collections.abc import Sequence
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from fastslm.errors import FastSLMError

__version__: str

HashAlgorithm = Literal["sha256", "git-sha1", "none"]
FileState = Literal["waiting", "active", "verified", "failed", "cancelled"]
ArchiveFormat = Literal["gzip", "zstd", "zip", "tar", "tar.gzip", "tar.zstd"]

@final
class UnpackOptions:
    """How to unpack one file into ``folder``, which is made and must not exist.

    ``name`` is given to the one file of the formats ``gzip`` and ``zstd``. ``total_bytes``, ``members`` and ``ratio``
    (bytes out for a byte in, above 64 MiB) are limits: more is refused. ``only`` names members to write, all if empty;
    the others are decoded and checked all the same. ``digests`` computes the SHA-256 of what is written, ``durable``
    syncs it. ``threads`` decode the frames of zstd side by side, 0 for one on each processor.
    """

    def __init__(
        self,
        *,
        format: ArchiveFormat,
        folder: str,
        total_bytes: int,
        name: str = "",
        members: int = 100000,
        ratio: int = 1000,
        only: Sequence[str] = (),
        digests: bool = False,
        durable: bool = True,
        threads: int = 0,
    ) -> None: ...
    @property
    def folder(self) -> str: ...

@final
class UnpackedFile:
    """One file that came out; ``sha256`` is empty unless it was asked for."""

    @property
    def name(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...

@final
class Unpacking:
    """A packed file that is on disk, being unpacked. Dropping the object cancels and joins its thread.

    The folder is there, complete and right, only when ``files`` has returned.
    """

    def __init__(self, path: str, options: UnpackOptions) -> None: ...
    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s``; True when finished."""
    @property
    def size_bytes(self) -> int: ...
    @property
    def done_bytes(self) -> int: ...
    def files(self) -> list[UnpackedFile]:
        """What came out; waits for the end. Raises FormatError, DiskFull, FileSystemError, Cancelled."""
    def cancel(self) -> None: ...

@final
class FileRequest:
    """One file to fetch: where from, where to, and what it must turn out to be.

    ``partial_path`` receives the bytes at their final offsets and is complete, synced and verified when the
    state is ``verified``; the caller renames it into place. ``journal_path`` is removed at that moment.
    ``size_bytes`` is -1 when the server does not tell (one stream, no resume). ``identity`` is any text that
    changes when the content does (a hash, an ETag): a journal of another identity is discarded. Without an
    identity and an expected hash, or without a size, nothing is resumed. ``expected_hash`` is lower-case hex.
    ``mirrors`` are more addresses (with headers) of the same bytes, only allowed with an expected hash; a mirror that
    lies, fails or crawls is dropped. ``renewable`` promises that the caller answers ``link_wanted`` with ``renew``.
    With ``unpack`` the bytes are unpacked while they arrive, and ``verified`` means that this is done as well: the
    folder is complete, and the partial file and the journal stay until the caller has put it into its place.
    With ``first_limit`` the bytes are used while they arrive (``Download.give_back``): no disk space is reserved, what
    an earlier process gave back counts as done, partial file and journal stay, and only so much is fetched at first.
    A download that fails or is cancelled leaves a partial file only where the next one can go on from it.
    """

    def __init__(
        self,
        *,
        url: str,
        partial_path: str,
        journal_path: str,
        size_bytes: int,
        hash_algorithm: HashAlgorithm = "none",
        expected_hash: str = "",
        identity: str = "",
        headers: Sequence[str] = (),
        mirrors: Sequence[tuple[str, Sequence[str]]] = (),
        renewable: bool = False,
        first_limit: int | None = None,
        unpack: UnpackOptions | None = None,
    ) -> None: ...
    @property
    def url(self) -> str: ...
    @property
    def partial_path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...

@final
class DownloadOptions:
    """Settings of one download. Times in seconds, sizes in bytes, rates in bytes per second (0: no limit).

    ``connections`` is the most there may be; ``adaptive`` uses as many of them as raise the total rate, else all.
    """

    def __init__(
        self,
        *,
        connections: int = 16,
        adaptive: bool = True,
        limit_rate_bytes_s: int = 0,
        piece_bytes: int = 1048576,
        connect_timeout_s: float = 10.0,
        stall_timeout_s: float = 15.0,
        max_attempts: int = 6,
        backoff_s: float = 0.5,
        max_backoff_s: float = 30.0,
        journal_interval_s: float = 0.5,
        user_agent: str = "fastslm",
        proxy: str = "",
        no_proxy: str = "",
        ca_file: str = "",
    ) -> None: ...
    @property
    def connections(self) -> int: ...

@final
class FileProgress:
    """Where one file stands. ``done_bytes`` counts bytes safely written, ``ready_bytes`` those of them that follow the
    file's beginning without a gap, ``hashed_bytes`` those of these that the hash went over,
    ``resumed_bytes`` those found on disk at the start,
    ``repaired_bytes`` those replaced because the hash was wrong; ``digest`` is the hex hash once verified
    (SHA-256 when the request's algorithm is ``none``). ``doubted``: the hash was wrong once, so that bytes which were
    read before may be wrong. ``dropped_sources`` gives each with its reason; ``unpacked`` what came out of the file,
    once verified."""

    @property
    def state(self) -> FileState: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def done_bytes(self) -> int: ...
    @property
    def ready_bytes(self) -> int: ...
    @property
    def hashed_bytes(self) -> int: ...
    @property
    def resumed_bytes(self) -> int: ...
    @property
    def doubted(self) -> bool: ...
    @property
    def repaired_bytes(self) -> int: ...
    @property
    def link_wanted(self) -> bool: ...
    @property
    def dropped_sources(self) -> list[str]: ...
    @property
    def digest(self) -> str: ...
    @property
    def unpacked(self) -> list[UnpackedFile]: ...
    @property
    def error(self) -> FastSLMError | None: ...

@final
class Progress:
    """One consistent look at a download. ``wire_bytes`` counts body bytes received, wasted ones included,
    ``connections`` the transfers under way, ``level`` how many there may be at the moment."""

    @property
    def files(self) -> list[FileProgress]: ...
    @property
    def wire_bytes(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def finished(self) -> bool: ...

@final
class Download:
    """A running download. Starts at construction; ends when every file is verified, failed or cancelled.

    One failed file does not stop the others. Dropping the object cancels and joins its threads.
    """

    def __init__(self, files: Sequence[FileRequest], options: DownloadOptions) -> None: ...
    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s``; True when finished. Never longer, so that Ctrl-C works."""
    def progress(self) -> Progress: ...
    def renew(self, file: int, url: str, headers: Sequence[str] = ()) -> None:
        """A fresh address for the file with this index; an empty ``url`` gives it up with its LinkExpired."""
    def give_back(self, file: int, ranges: Sequence[tuple[int, int]], limit: int) -> None:
        """Bytes ``(begin, end)`` of a file with a ``first_limit`` were used for the last time: their disk space is
        given back as soon as the hash went over them. What is before ``limit`` may be fetched."""
    def cancel(self) -> None:
        """Ask all transfers to stop; the journals are saved. Returns at once, ``wait`` tells when it is done."""

def archive_format(file_name: str) -> ArchiveFormat | None:
    """How a file of this name is packed, by its ending; None for anything else."""

def unfinished_bytes(partial_path: str, journal_path: str) -> tuple[int, int] | None:
    """Size of an unfinished file and how much of it is good; None without a sound journal of just this file."""

def given_back(partial_path: str, journal_path: str) -> list[tuple[int, int]]:
    """Ranges of an unfinished file that were used and given back; none without a sound journal of just this file."""

def can_punch(folder: str) -> bool:
    """Whether the disk space of a part of a file can be given back in this folder. Raises FileSystemError."""

def hash_file(path: str, algorithm: Literal["sha256", "git-sha1"]) -> str:
    """Hex digest of a whole file. Raises FileSystemError."""

def copy_file(source: str, target: str) -> Literal["reflink", "copy"]:
    """Copy by reflink where the file system can, else by copy_file_range or blocks; never overwrites.

    Returns the way it was done. Raises FileSystemError, DiskFull.
    """

def cpu_info() -> dict[str, object]:
    """``{"features": list[str], "threads": int, "vendor": str}``: instruction sets that CPU and OS support."""

def read_bandwidth(size_bytes: int, threads: int, seconds: float) -> float:
    """Memory read rate in bytes per second: ``threads`` threads sum a buffer of ``size_bytes`` for ``seconds``."""

def read_in_step(size_bytes: int, threads: Sequence[int], seconds: float) -> list[float]:
    """The same for each of several numbers of threads, in ``seconds`` together.

    The threads have equal shares and wait for the last one after each pass, as those of an operator do.
    """

def error_codes() -> list[str]:
    """Name of every error code of the C++ core."""

def error_class(code: str) -> type[FastSLMError]:
    """The class that a C++ error code becomes; every code has one."""

PLANES_ENCODING: str
"""Name of the layout of packed frames, in the headers of both sides."""

PLANES_FRAME_BYTES: int
"""Most bytes of a file in one frame."""

def pack_frame(raw: bytes, *, offset: int, width: int, lead: int) -> bytes:
    """The bytes at ``offset`` of a file as one frame, packed without loss.

    They are numbers of ``width`` bytes (1, 2 or 4), the first of which begins ``lead`` bytes in. Raises UsageError.
    """

def unpack_frame(frame: bytes, *, offset: int) -> bytes:
    """The bytes of one whole frame that begins at ``offset`` of its file. Raises FormatError."""

def packed_layout_version() -> int:
    """Version of the layout that ``pack_linear`` writes and the operators read."""

def packed_bytes(
    shape: tuple[int, int], *, bits: Literal[4, 8], group: int, has_offsets: bool = False, has_steps: bool = False
) -> int:
    """Bytes that ``pack_linear`` makes of a matrix [rows, inputs]. Raises UsageError."""

def pack_linear(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.float32] | None = None,
    steps: npt.NDArray[np.uint8] | None = None,
    bases: npt.NDArray[np.int8] | None = None,
    *,
    bits: Literal[4, 8],
) -> npt.NDArray[np.uint8]:
    """Lay a quantised matrix out for the kernels (``csrc/include/fastslm/packed.hpp`` has the layout).

    ``codes`` [rows, inputs] are unsigned, one in a byte; ``scales`` and ``offsets`` [rows, inputs / group], group 32,
    64 or 128, are stored as float16. Without offsets weight = scale * (code - 8), or (code - 128) with 8 bits; with
    offsets weight = scale * code + offset; with ``steps``, at most 15, and ``bases`` [rows, inputs / 32], for 4 bits
    and groups of up to 256, weight = scale * (step * (code - 8) + base). Parts of a matrix may be packed one by one
    and written one after the other, as long as every part but the last has a multiple of 32 rows. Raises UsageError.
    """

def unpack_linear(
    packed: npt.NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    bits: Literal[4, 8],
    group: int,
    has_offsets: bool = False,
    has_steps: bool = False,
) -> tuple[
    npt.NDArray[np.uint8],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32] | None,
    npt.NDArray[np.uint8] | None,
    npt.NDArray[np.int8] | None,
]:
    """Codes, scales, offsets, steps and bases of a packed matrix [rows, inputs]. Raises UsageError."""

def quantize(
    rows: npt.NDArray[np.float32],
    *,
    bits: Literal[4, 8],
    group: int = 32,
    importance: npt.NDArray[np.float32] | None = None,
    thorough: bool = True,
    offsets: bool = False,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.generic]] | None:
    """Quantise rows [rows, columns] in groups of 32, 64 or 128: weight = scale * (code - zero).

    Returns codes [rows, columns * bits / 8] (two 4-bit codes in a byte, the even column in the low half), scales and
    zero points, one in a byte, [rows, columns / group]; 8 bits have zero point 128 and an empty array. With
    ``offsets``, for 4 bits, weight = scale * code + offset, and float32 offsets take the place of zero points. None
    when a number is infinite or not a number. With 4 bits the sum of ``importance`` [columns] times the squared errors
    is made small; ``thorough`` tries more grids. The same on every instruction set. Raises UsageError.
    """

def quantize_steps(
    rows: npt.NDArray[np.float32],
    *,
    group: int = 256,
    importance: npt.NDArray[np.float32] | None = None,
    thorough: bool = True,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.int8]] | None:
    """Quantise rows [rows, columns] in groups of 32, 64, 128 or 256: weight = scale * (step * (code - 8) + base).

    Returns codes [rows, columns / 2] as ``quantize`` does, scales [rows, columns / group], which float16 holds exactly
    unless they are beyond its range, steps and bases [rows, columns / 32] as ``pack_linear`` takes them. The rest is
    as for ``quantize``.
    """

def available_isas() -> list[str]:
    """Instruction sets of the kernels that processor and system support, best first; the last is ``portable``."""

def active_isa() -> str:
    """The one that the environment variable FASTSLM_ISA names, else the best. Raises UsageError for another name."""
