"""The whole error tree. Floor 0: imports nothing of ours.

    FastSLMError
    ├─ UsageError (ValueError)              name, value, allowed              exit 2
    ├─ NotFoundError                        what, name, nearest               exit 3
    │   ├─ ModelNotFound
    │   ├─ RevisionNotFound
    │   └─ FileMissing                      a file vanished from hub or disk
    ├─ DoesNotFit                           resource, needed, available       exit 4
    │   ├─ DiskFull                         bytes
    │   └─ ContextTooLong                   tokens
    ├─ NetworkError                         url, status, offset               exit 5
    │   ├─ RetryableNetworkError            worth another attempt
    │   │   ├─ ConnectionLost               DNS, refused, reset, time-out, stall, short body
    │   │   ├─ ServerBusy                   408, 429, 5xx; retry_after_s
    │   │   └─ RangeMismatch                206 whose Content-Range or total is not what was asked
    │   ├─ LinkExpired                      401, 403, 410 on a signed address: resolve again
    │   ├─ ServerRefused                    any other 4xx, redirect loops, bad TLS certificate
    │   └─ OfflineMode                      the network is switched off by the user
    ├─ IntegrityError                       subject, expected, found          exit 6
    │   ├─ ChecksumMismatch
    │   ├─ SizeMismatch
    │   └─ FormatError                      a file that is not what it claims to be
    ├─ AccessDenied                         repo                              exit 7
    ├─ UnsupportedModel                     feature                           exit 1
    ├─ ConversionFailed                     stage                             exit 1
    ├─ GenerationFailed                                                       exit 1
    ├─ StoreError                           path                              exit 1
    ├─ FileSystemError (OSError)            path, errno                       exit 1
    ├─ MissingExtra (ImportError)           extra, feature                    exit 1
    └─ Cancelled                                                              exit 130

Messages say what failed, with the value found and the value expected, in one sentence without a full stop.
Advice is not part of a message: the command line adds it as a hint. Facts are attributes. The exit codes are
applied by the one table in ``fastslm.cli.errors``.
"""

from __future__ import annotations

from collections.abc import Sequence


class FastSLMError(Exception):
    """Base of every error that fastslm raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class UsageError(FastSLMError, ValueError):
    """An argument or setting has a value that is not allowed."""

    def __init__(self, message: str, *, name: str = "", value: object = None, allowed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.value = value
        self.allowed = tuple(allowed)


class NotFoundError(FastSLMError):
    """Something that was asked for by name does not exist."""

    def __init__(self, message: str, *, what: str = "", name: str = "", nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.what = what
        self.name = name
        self.nearest = tuple(nearest)


class ModelNotFound(NotFoundError):
    """No repository, catalogue entry, file or folder has this name."""


class RevisionNotFound(NotFoundError):
    """The repository exists, the branch, tag or commit does not."""


class FileMissing(NotFoundError):
    """A file that was listed or expected is not there."""


class DoesNotFit(FastSLMError):
    """A resource is too small; ``needed`` and ``available`` are in the resource's own unit."""

    def __init__(self, message: str, *, resource: str = "", needed: int = 0, available: int = 0) -> None:
        super().__init__(message)
        self.resource = resource
        self.needed = needed
        self.available = available


class DiskFull(DoesNotFit):
    """The disk has fewer free bytes than the operation needs."""


class ContextTooLong(DoesNotFit):
    """A prompt has more tokens than the model's context length leaves room for."""


class NetworkError(FastSLMError):
    """A transfer failed; ``status`` is the HTTP status or 0, ``offset`` the file offset in bytes."""

    def __init__(self, message: str, *, url: str = "", status: int = 0, offset: int = 0) -> None:
        super().__init__(message)
        self.url = url
        self.status = status
        self.offset = offset


class RetryableNetworkError(NetworkError):
    """Another attempt may succeed. It reaches the user only when all attempts are spent."""


class ConnectionLost(RetryableNetworkError):
    """No connection, a connection cut off, or no byte for longer than the stall time-out."""


class ServerBusy(RetryableNetworkError):
    """The server answered 408, 429 or 5xx; ``retry_after_s`` is what it asked for, 0 if nothing."""

    def __init__(
        self, message: str, *, url: str = "", status: int = 0, offset: int = 0, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message, url=url, status=status, offset=offset)
        self.retry_after_s = retry_after_s


class RangeMismatch(RetryableNetworkError):
    """The server sent other bytes than the range that was asked for; nothing of it was written."""


class LinkExpired(NetworkError):
    """A signed address is no longer accepted (401, 403, 410) and must be resolved again."""


class ServerRefused(NetworkError):
    """The server's answer is final."""


class OfflineMode(NetworkError):
    """The user switched the network off and the cache cannot answer."""


class IntegrityError(FastSLMError):
    """Data is not what it should be; ``subject`` names the file or tensor."""

    def __init__(self, message: str, *, subject: str = "", expected: object = None, found: object = None) -> None:
        super().__init__(message)
        self.subject = subject
        self.expected = expected
        self.found = found


class ChecksumMismatch(IntegrityError):
    """The hash of the received bytes differs from the published one."""


class SizeMismatch(IntegrityError):
    """A file has another length than was announced."""


class FormatError(IntegrityError):
    """A model file is truncated, damaged or hostile."""


class AccessDenied(FastSLMError):
    """The repository is gated or private, or the token is not accepted."""

    def __init__(self, message: str, *, repo: str = "") -> None:
        super().__init__(message)
        self.repo = repo


class UnsupportedModel(FastSLMError):
    """The model is sound, but uses something that fastslm does not do; ``feature`` names it."""

    def __init__(self, message: str, *, feature: str = "") -> None:
        super().__init__(message)
        self.feature = feature


class ConversionFailed(FastSLMError):
    """A model could not be converted; ``stage`` is the step that failed."""

    def __init__(self, message: str, *, stage: str = "") -> None:
        super().__init__(message)
        self.stage = stage


class GenerationFailed(FastSLMError):
    """The engine could not produce the next token."""


class StoreError(FastSLMError):
    """The registry or a model folder cannot be read or changed."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class FileSystemError(FastSLMError, OSError):
    """The operating system refused a file operation."""

    def __init__(self, message: str, *, path: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.errno = errno

    __str__ = FastSLMError.__str__


class MissingExtra(FastSLMError, ImportError):
    """An optional part is not installed; ``extra`` is what to put in ``pip install fastslm[extra]``."""

    def __init__(self, message: str, *, extra: str = "", feature: str = "") -> None:
        super().__init__(message)
        self.extra = extra
        self.feature = feature


class Cancelled(FastSLMError):
    """The user stopped the operation; whatever can be resumed was kept."""

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)
