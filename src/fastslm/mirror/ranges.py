"""Which bytes of a file a request asks for (RFC 9110, sections 13.1.5 and 14). Pure.

One range is served; several, another unit or a form that nobody can read count as none, as the standard allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_FORM = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Bytes ``begin`` up to, not including, ``end`` of a file of ``size`` bytes; ``partial`` when it is a range."""

    begin: int
    end: int
    size: int
    partial: bool

    @property
    def content_range(self) -> str:
        """The header that says so."""
        return f"bytes {self.begin}-{self.end - 1}/{self.size}"


class Unsatisfiable(Exception):
    """A range that begins behind the end of the file; stays inside this folder."""


def asked_span(headers: Mapping[str, str], size: int, etag: str) -> Span:
    """What ``Range`` and ``If-Range`` mean for a file with this size and entity tag (without quotes).

    Raises:
        Unsatisfiable: to be answered with 416.
    """
    whole = Span(0, size, size, partial=False)
    found = _FORM.fullmatch(headers.get("range", "").strip())
    if found is None or (headers.get("if-range", f'"{etag}"').strip() != f'"{etag}"'):
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    if not first:
        return _checked(Span(max(0, size - int(last)), size, size, partial=True))
    if last and int(last) < int(first):
        return whole
    return _checked(Span(int(first), min(int(last) + 1, size) if last else size, size, partial=True))


def _checked(span: Span) -> Span:
    if span.begin >= span.end:
        raise Unsatisfiable
    return span


def is_unchanged(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-None-Match`` says that the client has these bytes already."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in headers.get("if-none-match", "").split(",")]
    return etag in tags or "*" in tags
