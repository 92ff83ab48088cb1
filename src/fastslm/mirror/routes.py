"""What an address of the hub's protocol means. Pure; works on the raw path, in which ``%2F`` is not a slash.

These addresses are known, all others are not:

    /api/models                                          every model
    /api/models/{repo}[/revision/{rev}]                  information
    /api/models/{repo}/tree/{rev}[/{path}]               listing
    /api/models/{repo}/paths-info/{rev}                  chosen entries of the listing
    /api/models/{repo}/refs                              branches and tags
    /{repo}/resolve/{rev}/{path}                         a file

A repository's name has one part or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

Kind = Literal["models", "revision", "tree", "paths-info", "refs", "resolve", "unknown"]

MOST_PATH_CHARS = 4096
_KINDS: dict[str, Kind] = {"revision": "revision", "tree": "tree", "paths-info": "paths-info", "refs": "refs"}
_FOREIGN = frozenset({"datasets", "spaces", "api"})


@dataclass(frozen=True)
class Route:
    """A request's meaning; ``revision`` is empty for the default branch."""

    kind: Kind
    repo: str = ""
    revision: str = ""
    path: str = ""


UNKNOWN = Route("unknown")


def parse_route(raw_path: bytes) -> Route:
    """The meaning of an undecoded path; ``UNKNOWN`` for everything that is not in the table above."""
    try:
        text = raw_path.decode("ascii")
        parts = [unquote(part, errors="strict") for part in text.split("/")[1:]]
    except UnicodeDecodeError:
        return UNKNOWN
    if not text.startswith("/") or len(text) > MOST_PATH_CHARS:
        return UNKNOWN
    if any(ord(letter) < 32 for part in parts for letter in part):
        return UNKNOWN
    if parts[:2] == ["api", "models"]:
        return _api(parts[2:])
    return UNKNOWN if parts[0] in _FOREIGN else _file(parts)


def _api(parts: Sequence[str]) -> Route:
    if not parts or parts == [""]:
        return Route("models")
    for length in (1, 2):  # `gpt2` or `org/name`
        repo, rest = "/".join(parts[:length]), parts[length:]
        if length == 2 and not rest:
            return Route("revision", repo)
        if rest and rest[0] in _KINDS and len(parts) > length:
            return _detail(repo, _KINDS[rest[0]], rest[1:])
    return Route("revision", parts[0]) if len(parts) == 1 else UNKNOWN


def _detail(repo: str, kind: Kind, rest: Sequence[str]) -> Route:
    if kind == "refs":
        return Route("refs", repo) if not rest else UNKNOWN
    if not rest or (kind != "tree" and len(rest) > 1):
        return UNKNOWN
    return Route(kind, repo, rest[0], "/".join(rest[1:]).strip("/"))


def _file(parts: Sequence[str]) -> Route:
    for length in (1, 2):
        if len(parts) > length + 2 and parts[length] == "resolve":
            return Route("resolve", "/".join(parts[:length]), parts[length + 1], "/".join(parts[length + 2 :]))
    return UNKNOWN
