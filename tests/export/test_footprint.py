"""A footprint is what a conversion really gives, byte for byte, without converting."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from fastslm.errors import FormatError
from fastslm.export.convert import convert
from fastslm.export.decoder.feed_forward import EXPERTS_READ
from fastslm.export.footprint import LOOKED_UP, measure, read_footprint
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model, open_outline
from fastslm.store.manifest import GRAPH_NAME, WEIGHTS_NAME, ModelKind
from support.golden import golden_model
from support.tiny_files import TinyLlama, write_llama_gguf

SHAPES = {
    "tied": TinyLlama(),
    "untied": TinyLlama(tied=False, vocab=320),
    "offsets": TinyLlama(quant="Q4_1"),
    "floats": TinyLlama(quant="F32"),
}
CASES = [(name, precision) for name in SHAPES for precision in ("fp32", "int8", "int4")]


@pytest.mark.parametrize(("name", "precision"), [*CASES, ("tied", "exact"), ("offsets", "exact")])
def test_a_footprint_has_the_size_of_the_conversion(tmp_path: Path, name: str, precision: str) -> None:
    """Disk space is told to the byte, and the converted folder tells the same of itself."""
    source, folder = tmp_path / "tiny.gguf", tmp_path / "out"
    write_llama_gguf(source, SHAPES[name])
    folder.mkdir()
    options = ConvertOptions("tiny", "c", precision=precision)  # type: ignore[arg-type]
    found = measure(open_outline(source), options)
    manifest = convert(open_model(source), folder, options)
    assert found.file_bytes == sum((folder / file).stat().st_size for file in (GRAPH_NAME, WEIGHTS_NAME))
    again = read_footprint(folder, found.kind, found.context_length)
    assert again == found
    assert manifest.streamed_bytes == found.streamed_bytes


def test_what_is_read_for_a_token_leaves_out_an_embedding_of_its_own(tmp_path: Path) -> None:
    """Of a separate embedding one row is looked up; a tied one is multiplied with as the head."""
    sizes = {}
    for name in ("tied", "untied"):
        write_llama_gguf(tmp_path / name, TinyLlama(tied=name == "tied"))
        (tmp_path / name).rename(tmp_path / f"{name}.gguf")
        sizes[name] = measure(open_outline(tmp_path / f"{name}.gguf"), ConvertOptions("t", "c", precision="fp32"))
    assert sizes["tied"].streamed_bytes == sizes["untied"].streamed_bytes
    embedding = 262 * 64 * 4
    assert sizes["untied"].file_bytes - sizes["tied"].file_bytes > embedding * 0.9


def test_the_cache_of_a_position_follows_from_the_heads(tmp_path: Path) -> None:
    """Two layers, two KV heads of 16, keys and values: two bytes each and a scale, or four bytes."""
    write_llama_gguf(tmp_path / "t.gguf")
    for target, head_bytes in (("native", 16 * 2 + 4), ("portable", 16 * 4)):
        options = ConvertOptions("t", "c", precision="int8", context_length=64, target=target)
        found = measure(open_outline(tmp_path / "t.gguf"), options)
        assert found.kv_bytes == 2 * 2 * 2 * head_bytes
    assert (found.context_length, found.num_layers) == (64, 2)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
@pytest.mark.parametrize("target", ["native", "portable"])
@pytest.mark.parametrize("variant", ["mixtral", "qwen2_moe"])
def test_a_token_reads_the_experts_that_it_goes_to(variant: str, target: str, precision: str, tmp_path: Path) -> None:
    """Two of four here: half of their bytes count, on disk all of them."""
    golden, folder = golden_model(variant, tmp_path / "source"), tmp_path / "out"
    folder.mkdir()
    options = ConvertOptions("t", "c", precision=precision, target=target)  # type: ignore[arg-type]
    found = measure(open_outline(golden.folder), options)
    manifest = convert(open_model(golden.folder), folder, options)
    assert found.file_bytes == sum((folder / file).stat().st_size for file in (GRAPH_NAME, WEIGHTS_NAME))
    assert read_footprint(folder, found.kind, found.context_length) == found
    assert manifest.streamed_bytes == found.streamed_bytes
    graph = onnx.load(str(folder / GRAPH_NAME), load_external_data=False)
    weights = {
        tensor.name: int(tensor.external_data[2].value) for tensor in graph.graph.initializer if tensor.external_data
    }
    looked_up = {name for node in graph.graph.node if node.op_type in LOOKED_UP for name in node.input}
    experts = sum(size for name, size in weights.items() if ".experts." in name)
    others = sum(size for name, size in weights.items() if ".experts." not in name and name not in looked_up)
    assert experts > others / 2
    assert found.streamed_bytes == pytest.approx(others + experts / 2, abs=200)
    assert found.row_bytes > 0


@pytest.mark.parametrize("text", ["", "many", "8/2", "0/8", "1/0", "2/8/4", "1e9", "9" * 50])
def test_a_part_of_experts_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    """A folder may come from a stranger."""
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    onnx.helper.set_model_props(model, {EXPERTS_READ: text})
    onnx.save(model, tmp_path / GRAPH_NAME)
    with pytest.raises(FormatError, match="`experts_read` is "):
        read_footprint(tmp_path, ModelKind("mixtral", "int4", "native"), 1)


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / GRAPH_NAME).write_bytes(b"\xff" * 100)
    with pytest.raises(FormatError, match=GRAPH_NAME):
        read_footprint(tmp_path, ModelKind("llama", "int4", "native"), 1)
