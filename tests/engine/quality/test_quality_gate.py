"""What quantisation costs is measured before a model is published, and too much of it is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastslm import api, machine
from fastslm.config import Settings
from fastslm.engine.quality import gate
from fastslm.engine.quality.gate import BOUNDS, bounds_of, judged
from fastslm.errors import ConversionFailed, UsageError
from fastslm.fidelity import Fidelity
from fastslm.store.manifest import ModelManifest
from fastslm.store.registry import Registry
from support.float_model import float_model
from support.tiny_encoder import encoder_source
from support.tiny_files import write_llama_gguf


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return float_model(tmp_path / "sound")


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Its floats work, 4 bits of it do not."""
    return float_model(tmp_path / "spoiled", spoiled=True)


def test_the_figures_are_in_the_manifest(settings: Settings, sound: Path) -> None:
    """Whoever gets the folder can read what it cost; 8 bits cost less than 4."""
    found = {}
    for precision in ("int8", "int4"):
        folder = api.convert(sound, precision=precision, settings=settings)  # type: ignore[arg-type]
        quality = ModelManifest.read(folder).quality
        assert quality is not None
        assert quality.within
        assert quality.tokens > 200
        assert not [path for path in folder.iterdir() if path.is_dir()], "the floats are gone"
        found[precision] = quality
    assert 0 < (found["int8"].kl_divergence or 0) < 0.1 * (found["int4"].kl_divergence or 0)
    assert found["int8"].float_perplexity == found["int4"].float_perplexity
    assert (found["int8"].same_best or 0) > (found["int4"].same_best or 1)


def test_a_spoiled_result_is_not_published(settings: Settings, spoiled: Path) -> None:
    """The registry knows the reason, and the models' folder has nothing of it."""
    with pytest.raises(ConversionFailed, match="in `int4` is too far from its floats: KL divergence") as caught:
        api.convert(spoiled, precision="int4", settings=settings)
    assert caught.value.stage == "quality"
    [entry] = Registry(settings.registry_file).list()
    assert (entry.state, entry.folder, entry.cause) == ("failed", "", str(caught.value))
    assert not list(settings.models_dir.rglob("model.onnx*"))
    target = settings.home / "elsewhere"
    with pytest.raises(ConversionFailed):
        api.convert(spoiled, precision="int4", output=target, settings=settings)
    assert not target.exists()


def test_what_was_there_stays_when_the_next_try_is_refused(settings: Settings, spoiled: Path) -> None:
    """A forced model is kept until something better is complete."""
    folder = api.convert(spoiled, precision="int4", settings=settings, quality="never")
    before = (folder / "fastslm.json").read_bytes()
    with pytest.raises(ConversionFailed):
        api.convert(spoiled, precision="int4", settings=settings, quality="always")
    assert (folder / "fastslm.json").read_bytes() == before


def test_force_keeps_it_and_says_so(settings: Settings, spoiled: Path) -> None:
    told: list[str] = []
    folder = api.convert(spoiled, precision="int4", settings=settings, force=True, notice=told.append)
    quality = ModelManifest.read(folder).quality
    assert quality is not None
    assert not quality.within
    assert any("too far from its floats" in each for each in told)


def test_never_measures_nothing_and_always_measures_it_later(
    settings: Settings, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is there without figures is made again when they are asked for, and then not any more."""
    folder = api.convert(sound, precision="int4", settings=settings, quality="never")
    assert ModelManifest.read(folder).quality is None
    api.convert(sound, precision="int4", settings=settings)
    assert ModelManifest.read(folder).quality is None, "auto leaves a sound model alone"
    assert api.convert(sound, precision="int4", settings=settings, quality="always") == folder
    first = ModelManifest.read(folder)
    assert first.quality is not None
    monkeypatch.setattr(gate, "measure", None)
    api.convert(sound, precision="int4", settings=settings, quality="always")


@pytest.mark.parametrize("scarce", ["floats", "memory", "disk"])
def test_auto_measures_only_where_it_is_cheap(
    settings: Settings, sound: Path, monkeypatch: pytest.MonkeyPatch, scarce: str
) -> None:
    """No gigabytes of floats for a report, and none that memory or disk cannot hold."""
    if scarce == "floats":
        monkeypatch.setattr(gate, "MOST_FLOAT_BYTES", 1000)
    elif scarce == "memory":
        poor = replace(machine.inspect(), available_bytes=1000)
        monkeypatch.setattr(machine, "inspect", lambda: poor)
    else:
        usage = shutil.disk_usage(settings.home.parent)._replace(free=1000)
        monkeypatch.setattr(gate.shutil, "disk_usage", lambda _: usage)
    folder = api.convert(sound, precision="int4", settings=settings)
    assert ModelManifest.read(folder).quality is None


@pytest.mark.parametrize("precision", ["fp32", "exact", "int8"])
def test_without_plain_floats_there_is_no_standard(settings: Settings, tmp_path: Path, precision: Any) -> None:
    """Quantised files are what they are; floats are themselves."""
    path = tmp_path / "tiny.gguf"
    write_llama_gguf(path)
    folder = api.convert(path, precision=precision, settings=settings)
    assert ModelManifest.read(folder).quality is None
    with pytest.raises(UsageError, match="quality is `always`, but"):
        api.convert(path, precision=precision, settings=settings, quality="always")
    assert ModelManifest.read(folder).quality is None


def test_an_encoder_is_judged_by_its_vectors(settings: Settings, tmp_path: Path) -> None:
    source = encoder_source(tmp_path / "source")
    quality = ModelManifest.read(api.convert(source, precision="int8", settings=settings)).quality
    assert quality is not None
    assert 0.99 < (quality.least_cosine or 0) < 1
    assert quality.kl_divergence is None
    assert "cosine at least 0.9" in quality.summary


def test_an_encoder_gets_eight_bits_unless_told_otherwise(settings: Settings, tmp_path: Path) -> None:
    """Its 4-bit model is hardly smaller; decoders get 4."""
    wish: dict[str, Any] = {"settings": settings, "quality": "never"}
    encoder = api.convert(encoder_source(tmp_path / "encoder"), **wish)
    decoder = api.convert(float_model(tmp_path / "decoder"), **wish)
    assert [ModelManifest.read(folder).precision for folder in (encoder, decoder)] == ["int8", "int4"]


@pytest.mark.parametrize("precision", list(BOUNDS))
def test_each_precision_has_its_bounds(precision: str) -> None:
    """On either side of each."""
    bounds = bounds_of(precision, "native")
    good = Fidelity(True, 9, bounds.divergence, 10 * bounds.perplexity, 10.0, 0.5)
    assert judged(good, bounds).within
    assert not judged(replace(good, kl_divergence=bounds.divergence * 1.01), bounds).within
    assert not judged(replace(good, perplexity=10.1 * bounds.perplexity), bounds).within
    assert judged(Fidelity(True, 9, least_cosine=bounds.cosine), bounds).within
    assert not judged(Fidelity(True, 9, least_cosine=bounds.cosine - 0.001), bounds).within


def test_stock_operators_may_lose_more() -> None:
    """But not all that a perplexity can show: its bound follows from the divergence, on a page of text."""
    ours, stock = (bounds_of("int4", target) for target in ("native", "portable"))
    assert ours.divergence < stock.divergence
    assert 1 + ours.divergence < ours.perplexity < stock.perplexity < 2.1
