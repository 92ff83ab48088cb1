"""A hub for each test, settings that point to it, and planner calls that do not wait long."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.hub.client import HubClient, Patience
from support.hub_server import FakeHub

QUICK = Patience(resolve_s=5, listing_s=5, locate_s=5, attempts=2, backoff_s=0.01)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def hub_settings(hub: FakeHub, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", hub_cache=tmp_path / "cache", endpoint=hub.endpoint, connections=4)


@pytest.fixture
def client(hub_settings: Settings) -> HubClient:
    return HubClient(hub_settings, QUICK)


@pytest.fixture
def with_token(hub_settings: Settings) -> Settings:
    return dataclasses.replace(hub_settings, token="hf_good")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine gives up soon, for faults that do not pass."""
    from fastslm import _native
    from fastslm.hub import transfer

    def options(settings: Settings, url: str) -> _native.DownloadOptions:
        return _native.DownloadOptions(connections=settings.connections, max_attempts=2, backoff_s=0.01)

    monkeypatch.setattr(transfer, "_options", options)


@pytest.fixture
def model_files() -> dict[str, bytes]:
    """A small repository that a conversion would take whole; the weights are three pieces of the engine and a bit."""
    noise = random.Random(11).randbytes
    return {
        "README.md": b"# tiny\n",
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": noise(3 * 1024 * 1024 + 123),
        "tokenizer.json": noise(70_000),
        "tokenizer_config.json": b"{}",
    }
