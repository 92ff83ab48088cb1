"""Models with layers that keep something else than keys and values: LFM2, from its files to its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastslm import ops
from fastslm.engine.quality.calibrate import read_statistics
from fastslm.engine.quality.gate import calibrate
from fastslm.engine.quality.gate import measure as measure_quality
from fastslm.engine.session import OrtSession, SessionOptions
from fastslm.errors import UnsupportedModel
from fastslm.export.convert import convert
from fastslm.export.footprint import measure, read_footprint
from fastslm.export.observed import convert_observed
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model, open_outline
from fastslm.progress import silent
from fastslm.store.manifest import ModelManifest
from support.golden import ROOT, Golden, golden_model

IDS = [5, 40, 200, 7, 7, 99, 120, 2, 250, 11, 64, 3]
HEADS, HEAD_DIM = 2, 16


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return golden_model("lfm2", tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def folder(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("int8")
    convert(open_model(golden.folder), target, ConvertOptions("tiny", "0" * 12, "int8"))
    return target


def open_session(folder: Path, kv_cache: ops.CacheFormat) -> OrtSession:
    return OrtSession(folder, ModelManifest.read(folder), SessionOptions(1, 64, kv_cache))


@pytest.mark.parametrize("kv_cache", ops.CACHE_FORMATS)
def test_a_sequence_may_be_cut_and_gone_on_with(folder: Path, kv_cache: ops.CacheFormat) -> None:
    """To the last bit, in every format of the cache: a chat is edited in the middle, a prompt comes in pieces."""
    session = open_session(folder, kv_cache)
    whole = session.forward(session.new_cache(), IDS, every_position=True).copy()
    cache = session.new_cache()
    session.forward(cache, [9, 8, 7, 6, 5, 4, 3, 2])
    cache.truncate(0)
    session.forward(cache, IDS[:5])
    session.forward(cache, [1, 2, 3])
    cache.truncate(5)
    rows = [session.forward(cache, piece, every_position=True).copy() for piece in (IDS[5:6], IDS[6:])]
    assert np.concatenate(rows).tobytes() == whole[5:].tobytes()


def test_the_cache_has_what_each_layer_keeps(folder: Path) -> None:
    """Convolutions keep one row as wide as the model, attention a key and a value for each head."""
    buffers = open_session(folder, "f32").new_cache().buffers
    assert {name: buffer.shape[1] for name, buffer in buffers.items()} == {
        "0.key": HEADS,
        "1.key": 1,
        "1.value": 1,
        "2.key": HEADS,
    }


def test_the_manifest_tells_the_layers_that_attend(folder: Path) -> None:
    """What a step reads of the cache follows from them."""
    manifest = ModelManifest.read(folder)
    assert (manifest.num_layers, manifest.attending_layers, manifest.kv_layers) == (3, 1, 1)


def test_a_plan_counts_all_that_is_kept(golden: Golden, folder: Path) -> None:
    """Keys and values of one layer, the inputs of two convolutions; the finished graph says the same."""
    found = measure(open_outline(golden.folder), ConvertOptions("t", "c", "int8", context_length=64))
    assert (found.num_layers, found.kv_bytes) == (3, (2 * 1 + 2 * HEADS) * ops.cache_row_bytes("int16", HEAD_DIM))
    manifest = ModelManifest.read(folder)
    again = read_footprint(folder, manifest.kind, manifest.context_length)
    assert (again.num_layers, again.kv_bytes, again.file_bytes) == (3, found.kv_bytes, found.file_bytes)


def test_stock_operators_are_refused_before_anything_is_written(golden: Golden, tmp_path: Path) -> None:
    """In one sentence, by the plan, by the conversion and before a calibration."""
    options = ConvertOptions("t", "c", "int8", target="portable")
    words = "`portable` graphs cannot hold LFM2, expected the target `native`"
    with pytest.raises(UnsupportedModel, match=words):
        measure(open_outline(golden.folder), options)
    with pytest.raises(UnsupportedModel, match=words):
        convert(open_model(golden.folder), tmp_path, options)
    with pytest.raises(UnsupportedModel, match=words):
        calibrate(open_model(golden.folder), tmp_path, options, "", silent)
    assert not list(tmp_path.iterdir())


def test_quality_is_measured_against_floats(golden: Golden, folder: Path) -> None:
    """The floats run with our operators too."""
    found = measure_quality(open_model(golden.folder), folder, ConvertOptions("t", "c", "int8"))
    assert found.kl_divergence is not None
    assert 0 < found.kl_divergence < 0.05
    assert not (folder / "floats").exists()


def test_a_text_shows_which_columns_matter(golden: Golden, tmp_path: Path) -> None:
    """Those of convolutions too."""
    source = open_model(golden.folder)
    convert_observed(source, tmp_path, ConvertOptions("t", "c", "fp32", target="native"))
    text = (ROOT / "evaluation.txt").read_text(encoding="utf-8")
    found = read_statistics(tmp_path, text, threads=1, progress=silent).mean_squares
    matrices = {name for name in source.tensors if len(source.tensors.info(name).shape) == 2}
    assert set(found) == matrices
