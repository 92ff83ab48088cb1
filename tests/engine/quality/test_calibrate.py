"""A text tells which columns matter, and the error of what the model says about such a text gets smaller."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastslm import api
from fastslm.config import Settings
from fastslm.engine.quality import gate
from fastslm.engine.quality.calibrate import FLOOR, read_statistics
from fastslm.engine.quality.compare import compare
from fastslm.errors import FileMissing, FormatError, UsageError
from fastslm.export.observed import convert_observed
from fastslm.export.options import Calibration, ConvertOptions
from fastslm.formats import open_model
from fastslm.progress import silent
from fastslm.store.manifest import ModelManifest
from fastslm.text.tokenizer import Tokenizer
from support.float_model import CONFIG, DEAD, float_model
from support.golden import ROOT, TOKENIZER
from support.tiny_encoder import PLAIN, encoder_source

TEXT = (ROOT / "evaluation.txt").read_text(encoding="utf-8")


def statistics(source: Path, folder: Path, text: str = TEXT, precision: Any = "fp32") -> Calibration:
    folder.mkdir()
    convert_observed(open_model(source), folder, ConvertOptions("n", "c", precision, target="portable"))
    return read_statistics(folder, text, threads=1, progress=silent)


def test_every_matrix_of_a_decoder_is_seen(tmp_path: Path) -> None:
    """Also those that are one operator, whose inputs are the same; the first layer's are those of the definition."""
    found = statistics(float_model(tmp_path / "source"), tmp_path / "observed")
    source = open_model(tmp_path / "source")
    matrices = {name for name in source.tensors if len(source.tensors.info(name).shape) == 2}
    assert set(found.mean_squares) == matrices
    assert found.digest == sha256(TEXT.encode()).hexdigest()
    layer = "model.layers.0.self_attn"
    first = found.mean_squares[f"{layer}.q_proj.weight"]
    assert np.array_equal(first, found.mean_squares[f"{layer}.v_proj.weight"])
    ids = Tokenizer.open(TOKENIZER).encode(TEXT)
    rows = source.tensors.read("model.embed_tokens.weight")[ids].astype(np.float64)
    rows /= np.sqrt((rows * rows).mean(axis=1, keepdims=True) + CONFIG["rms_norm_eps"])
    squares = ((rows * source.tensors.read("model.layers.0.input_layernorm.weight")) ** 2).mean(axis=0)
    assert first == pytest.approx(squares / squares.mean() + FLOOR, rel=1e-4)


def test_eight_bits_tell_about_the_same(tmp_path: Path) -> None:
    """For models whose floats would be too large."""
    source = float_model(tmp_path / "source")
    exact, rough = (statistics(source, tmp_path / kind, precision=kind) for kind in ("fp32", "int8"))
    for name, squares in exact.mean_squares.items():
        assert rough.mean_squares[name] == pytest.approx(squares, rel=0.2), name


def test_columns_without_input_count_next_to_nothing(tmp_path: Path) -> None:
    found = statistics(float_model(tmp_path / "source", spoiled=True), tmp_path / "observed")
    columns = found.mean_squares["model.layers.1.mlp.up_proj.weight"]
    assert columns[DEAD] == pytest.approx(FLOOR)
    assert np.delete(columns, [DEAD, DEAD + 32]).min() > 10 * FLOOR


@pytest.mark.parametrize("target", ["native", "portable"])
@pytest.mark.parametrize("precision", ["int4", "int4-fast"])
def test_a_calibrated_model_says_more_nearly_the_same(
    settings: Settings, tmp_path: Path, target: Any, precision: Any
) -> None:
    """On the text itself, against the floats."""
    source, text = float_model(tmp_path / "source", uneven=True), tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    common = {"settings": settings, "quality": "never"}
    floats = api.convert(source, precision="fp32", output=tmp_path / "floats", **common)  # type: ignore[arg-type]
    lost = []
    for calibrate in (None, text):
        folder = tmp_path / f"calibrated-{calibrate is not None}"
        wish = {"precision": precision, "target": target, "calibrate": calibrate, "output": folder}
        api.convert(source, **wish, **common)  # type: ignore[arg-type]
        lost.append(compare(floats, folder, TEXT, threads=1).kl_divergence or 0.0)
        assert bool(ModelManifest.read(folder).calibrated_on) is (calibrate is not None)
    assert 0 < lost[1] < 0.8 * lost[0]


def test_without_a_wish_a_text_of_ours_does_it(settings: Settings, tmp_path: Path) -> None:
    """Where that is cheap, and not when nothing is to be done beside the conversion; not the comparison's text."""
    source = float_model(tmp_path / "source", uneven=True)
    lost = {}
    for quality in ("auto", "never"):
        folder = tmp_path / quality
        wish: dict[str, Any] = {"precision": "int4", "quality": quality, "force": True}
        api.convert(source, settings=settings, output=folder, **wish)
        manifest = ModelManifest.read(folder)
        assert bool(manifest.calibrated_on) is (quality == "auto")
        lost[quality] = gate.measure(open_model(source), folder, ConvertOptions("n", "c", "int4")).kl_divergence or 0.0
    texts = [(Path(gate.__file__).parent / name).read_text() for name in ("text.txt", "calibration.txt")]
    assert not set(texts[0].splitlines()) & set(texts[1].splitlines()) - {""}
    assert 0 < lost["auto"] < 0.8 * lost["never"]


def test_a_tokenizer_for_which_our_text_is_too_short_is_no_error(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastslm.engine.quality.calibrate.LEAST_TOKENS", 10**6)
    folder = api.convert(float_model(tmp_path / "source"), precision="int4", settings=settings)
    assert not ModelManifest.read(folder).calibrated_on


def test_an_encoder_is_calibrated_too(tmp_path: Path) -> None:
    found = statistics(encoder_source(tmp_path / "source"), tmp_path / "observed", " ".join(PLAIN * 20))
    assert any("attention" in name for name in found.mean_squares)
    assert all(np.isfinite(each).all() and (each > 0).all() for each in found.mean_squares.values())


def test_another_text_makes_the_model_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text does not, nor does no text."""
    source, text = float_model(tmp_path / "source"), tmp_path / "text.txt"
    wish: dict[str, Any] = {"precision": "int4", "settings": settings, "quality": "never"}
    folder = api.convert(source, **wish)
    for content in (TEXT, TEXT[500:]):
        text.write_text(content, encoding="utf-8")
        assert api.convert(source, calibrate=text, **wish) == folder
        assert ModelManifest.read(folder).calibrated_on == sha256(content.encode()).hexdigest()
    monkeypatch.setattr(gate, "calibrate", None)
    assert api.convert(source, calibrate=text, **wish) == api.convert(source, **wish)


def test_wishes_that_cannot_be_fulfilled_are_refused(settings: Settings, tmp_path: Path) -> None:
    """Before anything is written."""
    source, text = float_model(tmp_path / "source"), tmp_path / "text.txt"
    with pytest.raises(FileMissing, match="there is no text file"):
        api.convert(source, calibrate=text, settings=settings)
    text.write_bytes(b"caf\xe9")
    with pytest.raises(FormatError, match="is not UTF-8 text: byte 3 is 0xe9"):
        api.convert(source, calibrate=text, settings=settings)
    text.write_text("short", encoding="utf-8")
    with pytest.raises(UsageError, match=r"the calibration text has . tokens, expected at least 64"):
        api.convert(source, calibrate=text, settings=settings)
    with pytest.raises(UsageError, match="precision is `int8`, expected one of mixed, int4, int4-fast"):
        api.convert(source, precision="int8", calibrate=text, settings=settings)
    with pytest.raises(UsageError, match="quality is `sometimes`, expected one of auto, always, never"):
        api.convert(source, quality="sometimes", settings=settings)  # type: ignore[arg-type]
    assert not list(settings.models_dir.rglob("model.onnx*"))
