"""The official library's errors in our words: one table from its classes and the hub's statuses to our tree.

The classes come in as an argument, so that only the adapter imports the library.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from fastslm.config import Settings
from fastslm.errors import (
    AccessDenied,
    ConnectionLost,
    FastSLMError,
    FileMissing,
    ModelNotFound,
    NetworkError,
    OfflineMode,
    RevisionNotFound,
    ServerBusy,
    ServerRefused,
)
from fastslm.hub.refs import nearest_names


@dataclass(frozen=True)
class Subject:
    """What a call is about, for its error messages."""

    settings: Settings
    repo: str
    revision: str = ""
    path: str = ""
    url: str = ""

    @property
    def endpoint(self) -> str:
        """The hub that was asked."""
        return self.settings.endpoint


def translated(error: Exception, subject: Subject, errors: ModuleType) -> Exception:
    """Our error for one of the library's (``errors`` is its module of errors); what is not about the hub stays."""
    if isinstance(error, FastSLMError):
        return error
    for kinds, make in (
        (errors.GatedRepoError, _gated),
        (errors.DisabledRepoError, _disabled),
        (errors.RepositoryNotFoundError, _no_repo),
        (errors.RevisionNotFoundError, _no_revision),
        (errors.EntryNotFoundError, _no_file),
        (errors.OfflineModeIsEnabled, _offline),
        (errors.HfHubHTTPError, _status),
        (errors.HFValidationError, _no_repo),
        (json.JSONDecodeError, _unreadable),
        ((errors.HTTPError, OSError), _transport),
        ((ValueError, KeyError, TypeError, AttributeError), _unreadable),
    ):
        if isinstance(error, kinds):
            return make(error, subject)
    return error


def _gated(error: Any, subject: Subject) -> FastSLMError:
    who = "the token" if subject.settings.token else "an anonymous user"
    message = f"`{subject.repo}` is gated and {who} has not been given access"
    return AccessDenied(message, repo=subject.repo)


def _disabled(error: Any, subject: Subject) -> FastSLMError:
    return AccessDenied(f"access to `{subject.repo}` is disabled by the hub", repo=subject.repo)


def _no_repo(error: Any, subject: Subject) -> FastSLMError:
    token = "the token" if subject.settings.token else "no token"
    message = f"`{subject.endpoint}` has no repository `{subject.repo}`, or it is private (asked with {token})"
    return ModelNotFound(message, what="model", name=subject.repo, nearest=nearest_names(subject.repo))


def _no_revision(error: Any, subject: Subject) -> FastSLMError:
    message = f"`{subject.repo}` has no revision `{subject.revision}`"
    return RevisionNotFound(message, what="revision", name=subject.revision)


def _no_file(error: Any, subject: Subject) -> FastSLMError:
    return FileMissing(f"`{subject.repo}` has no file `{subject.path}`", what="file", name=subject.path)


def _offline(error: Any, subject: Subject) -> FastSLMError:
    return OfflineMode(f"the network is switched off, `{subject.endpoint}` was not asked", url=subject.endpoint)


def _status(error: Any, subject: Subject) -> FastSLMError:
    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0) or 0)
    url = subject.url or subject.endpoint
    if status in {401, 403}:
        return AccessDenied(f"`{subject.endpoint}` does not accept the token (status {status})", repo=subject.repo)
    message = f"`{subject.endpoint}` answered with status {status}"
    if status in {408, 429} or status >= 500:
        return ServerBusy(message, url=url, status=status, retry_after_s=_retry_after_s(response))
    return ServerRefused(message, url=url, status=status)


def _retry_after_s(response: Any) -> float:
    """Seconds from ``RateLimit: "api";r=0;t=12`` or ``Retry-After: 12``, 0 when neither is there."""
    headers = response.headers
    limit = re.search(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,6})", headers.get("RateLimit") or "")
    plain = re.fullmatch(r"\s*(\d{1,6})\s*", headers.get("Retry-After") or "")
    found = limit or plain
    return float(found.group(1)) if found else 0.0


def _transport(error: Any, subject: Subject) -> FastSLMError:
    kind: type[NetworkError] = ServerRefused if _is_tls_trouble(error) else ConnectionLost
    text = " ".join(str(error).split())[:200]
    return kind(f"cannot talk to `{subject.endpoint}`: {text}", url=subject.url or subject.endpoint)


def _is_tls_trouble(error: BaseException | None) -> bool:
    for _ in range(10):
        if error is None:
            return False
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unreadable(error: Any, subject: Subject) -> FastSLMError:
    what = f"{type(error).__name__}: {error}"[:200]
    return ServerRefused(f"the answer of `{subject.endpoint}` cannot be read ({what})", url=subject.endpoint)
