"""Addresses of the hub's protocol, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.mirror.routes import UNKNOWN, Route, parse_route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/models", Route("models")),
        ("/api/models/gpt2", Route("revision", "gpt2")),
        ("/api/models/org/name", Route("revision", "org/name")),
        ("/api/models/org/name/revision/refs%2Fpr%2F1", Route("revision", "org/name", "refs/pr/1")),
        ("/api/models/gpt2/tree/main", Route("tree", "gpt2", "main")),
        ("/api/models/org/name/tree/main/a/b%20c", Route("tree", "org/name", "main", "a/b c")),
        ("/api/models/org/name/paths-info/main", Route("paths-info", "org/name", "main")),
        ("/api/models/org/name/refs", Route("refs", "org/name")),
        ("/gpt2/resolve/main/config.json", Route("resolve", "gpt2", "main", "config.json")),
        ("/org/name/resolve/v1/sub/x%20%C3%A4.json", Route("resolve", "org/name", "v1", "sub/x \u00e4.json")),
        ("/org/name/resolve/a%2Fb/c", Route("resolve", "org/name", "a/b", "c")),
        ("/org/name/resolve/main/%2e%2e/%2e%2e/x", Route("resolve", "org/name", "main", "../../x")),
    ],
)
def test_addresses_mean_what_the_hub_means(path: str, route: Route) -> None:
    """Paths that lead out of the repository are read as they are; the stock has no such file."""
    assert parse_route(path.encode()) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api",
        "/api/datasets/x",
        "/api/models/a/b/c",
        "/api/models/org/name/refs/x",
        "/api/models/org/name/revision",
        "/datasets/org/name/resolve/main/x",
        "/spaces/org/name/resolve/main/x",
        "/org/name/resolve/main",
        "/org/name/raw/main/x",
        "/org/name/resolve/main/a%00b",
        "/org/name/resolve/main/%ff",
        "/org/name/resolve/main/\u00e4",
        "/org/name/resolve/main/" + "x" * 5000,
        "/a/b/c/resolve/main/x",
    ],
)
def test_anything_else_is_unknown(path: str) -> None:
    """No guess is made."""
    assert parse_route(path.encode()) == UNKNOWN


@given(st.binary(max_size=80) | st.from_regex(rb"/(api/models/)?[a-z%0-9/.]{0,40}"))
def test_no_path_is_too_strange(path: bytes) -> None:
    """A stranger's bytes give a route or none, never an exception."""
    assert parse_route(path).kind
