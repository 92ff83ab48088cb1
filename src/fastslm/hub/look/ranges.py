"""Read a part of a remote file into memory: what a plan needs of a header, never more than was asked for."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

from fastslm.config import Settings
from fastslm.errors import RangeMismatch
from fastslm.hub.address import no_answer, opener, refusal
from fastslm.hub.client import user_agent
from fastslm.hub.refs import public_address
from fastslm.hub.transfer import Link

TIMEOUT_S = 20.0


def read_range(link: Link, start: int, stop: int, settings: Settings) -> bytes:
    """Bytes ``start:stop`` of the file behind a link.

    Raises:
        RangeMismatch: the server sent another part, or ended early.
        FileMissing, ServerBusy, ServerRefused, ConnectionLost: it did not send the file at all.
    """
    request = urllib.request.Request(link.url, headers=_headers(start, stop))  # noqa: S310 - resolved by the hub client
    for line in link.headers:
        name, _, value = line.partition(":")
        request.add_unredirected_header(name.strip(), value.strip())  # a token goes to this origin and no further
    host = urlsplit(link.url).netloc
    try:
        with opener(settings, host).open(request, timeout=TIMEOUT_S) as answer:
            return _body(answer, link.url, start, stop)
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(link.url, error.code) from error
    except (OSError, HTTPException, ValueError) as error:
        raise no_answer(link.url, error) from error


def _headers(start: int, stop: int) -> dict[str, str]:
    return {"User-Agent": user_agent(), "Accept-Encoding": "identity", "Range": f"bytes={start}-{stop - 1}"}


def _body(answer: HTTPResponse, url: str, start: int, stop: int) -> bytes:
    """A server that ignores ranges sends the whole file; its beginning is what was asked for, if that begins there."""
    found = answer.headers.get("Content-Range") or "the whole file"
    expected = f"bytes {start}-{stop - 1}/"
    if not (found.startswith(expected) if answer.status == 206 else start == 0):
        message = f"the server sent `{found}`, expected `{expected}`"
        raise RangeMismatch(message, url=public_address(url), offset=start)
    data = answer.read(stop - start)
    if len(data) != stop - start:
        message = f"the server sent {len(data)} bytes from {start}, expected {stop - start}"
        raise RangeMismatch(message, url=public_address(url), offset=start)
    return data
