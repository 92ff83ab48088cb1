"""What a user may say about a download: how fast, over how many connections, from where, and whether at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from fastslm import api
from fastslm.config import Settings
from support.hub_server import FakeHub

Run = Callable[..., Any]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that reach the library."""
    seen: list[Settings] = []
    real = api.pull

    def pull(name: str, *, settings: Settings, **rest: Any) -> api.Pulled:
        seen.append(settings)
        return real(name, settings=settings, **rest)

    monkeypatch.setattr(api, "pull", pull)
    return seen


def test_the_command_line_wins_over_the_environment(
    fastslm: Run, hub: FakeHub, used: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rate, connections and mirrors arrive at the engine's door."""
    monkeypatch.setenv("FASTSLM_LIMIT_RATE", "1K")
    words = ["--limit-rate", "50M", "--max-connections", "3", "--mirror", f"{hub.endpoint}/"]
    assert fastslm("pull", "tiny/llama", "--no-convert", *words).code == 0
    assert (used[0].limit_rate, used[0].connections, used[0].mirrors) == (50 << 20, 3, (hub.endpoint,))


@pytest.mark.parametrize(
    "words", [["--limit-rate", "fast"], ["--max-connections", "0"], ["--mirror", "mirror:80"]], ids=lambda w: w[0]
)
def test_what_cannot_be_meant_is_wrong_usage(fastslm: Run, hub: FakeHub, words: list[str]) -> None:
    """Before anything is asked for."""
    shown = fastslm("pull", "tiny/llama", *words)
    assert shown.code == 2
    assert words[0] in shown.err
    assert hub.log() == []


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 130), ("", 130)])
def test_a_metered_pull_asks_first(
    fastslm: Run, hub: FakeHub, tiny_gguf: bytes, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    """The size is told; without a yes no byte of a model file is fetched."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    shown = fastslm("pull", "tiny/llama", "--metered", "--no-convert")
    assert shown.code == code
    assert "would download" in shown.err
    assert bool(hub.log("", "GET", "gguf") or hub.log("cdn")) is (code == 0)


def test_a_metered_pull_of_what_is_here_asks_nothing(fastslm: Run, hub: FakeHub) -> None:
    """There is nothing to agree to."""
    assert fastslm("pull", "tiny/llama", "--no-convert").code == 0
    assert "would download" not in fastslm("pull", "tiny/llama", "--no-convert", "--metered").err
