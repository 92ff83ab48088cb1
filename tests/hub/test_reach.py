"""Whether the hub answers."""

from __future__ import annotations

import dataclasses

import pytest

from fastslm.config import Settings
from fastslm.errors import ConnectionLost
from fastslm.hub.reach import reachable
from support.hub_server import FakeHub


def test_any_answer_counts(hub: FakeHub, hub_settings: Settings) -> None:
    """A hub that refuses a question is a hub that is there."""
    assert 0 < reachable(hub_settings) < 5


def test_nobody_there_names_the_address(hub_settings: Settings) -> None:
    """The user sees where was looked."""
    nowhere = dataclasses.replace(hub_settings, endpoint="http://127.0.0.1:9")
    with pytest.raises(ConnectionLost, match="does not answer"):
        reachable(nowhere)


def test_a_proxy_of_the_settings_is_used(hub: FakeHub, hub_settings: Settings) -> None:
    """The request goes to the proxy (here the hub itself), not to a name that does not exist."""
    behind = dataclasses.replace(
        hub_settings, endpoint="http://hub.invalid", proxies={"http": hub.endpoint.removeprefix("http://")}
    )
    assert reachable(behind) > 0
