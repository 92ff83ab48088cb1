"""A GGUF file of a family gives what its folder gives: names, row orders, norms and metadata are translated back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.convert import convert
from fastslm.export.families import FAMILIES
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from fastslm.formats.gguf.names import ARCHITECTURES, MIXTURES
from support.decoder import all_logits
from support.family_gguf import ARCHITECTURES as WRITTEN
from support.family_gguf import UNSAID, write_family_gguf
from support.golden import golden_model


def logits(source: Path, target: Path, prompt: np.ndarray, precision: str) -> np.ndarray:
    target.mkdir()
    convert(open_model(source), target, ConvertOptions("tiny", "0" * 12, precision))
    return all_logits(target, prompt)


def folder_logits(variant: str, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A prompt and what the folder's conversion says; the folder was held against transformers elsewhere."""
    golden = golden_model(variant, tmp_path / "folder")
    config = {**golden.config, **UNSAID.get(variant, {})}
    (golden.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return golden.prompts[0], logits(golden.folder, tmp_path / "expected", golden.prompts[0], "fp32")


def test_every_architecture_is_written_here() -> None:
    """What the README's table lists is tested."""
    assert set(WRITTEN.values()) == {*ARCHITECTURES, *MIXTURES}
    assert {arch.model_type for arch in [*ARCHITECTURES.values(), *MIXTURES.values()]} <= set(FAMILIES)


@pytest.mark.parametrize("variant", WRITTEN)
def test_a_gguf_file_gives_what_the_folder_gives(variant: str, tmp_path: Path) -> None:
    """Whoever has the one need not fetch the other."""
    prompt, expected = folder_logits(variant, tmp_path)
    found = logits(write_family_gguf(variant, tmp_path), tmp_path / "found", prompt, "fp32")
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"expert_count": 5}, FormatError, r"tensor `model.layers.0.mlp.gate.weight` has shape `\[4, 32\]`"),
        ({"expert_count": 3}, FormatError, r"tensor `model.layers.0.mlp.gate.weight` has shape `\[4, 32\]`"),
        ({"expert_count": 1 << 31}, FormatError, "`qwen3moe.expert_count` is `2147483648`"),
        ({"expert_used_count": 5}, UnsupportedModel, "`num_experts_per_tok` is `5`, expected at most 4"),
        ({"expert_used_count": 0}, FormatError, "`qwen3moe.expert_used_count` is `0`"),
        ({"expert_feed_forward_length": 64}, FormatError, r"experts.0.gate_proj.weight` has shape `\[32, 32\]`"),
    ],
)
def test_experts_that_are_not_what_the_header_says_are_refused(
    changes: dict[str, int], error: type[Exception], words: str, tmp_path: Path
) -> None:
    """In one sentence, before anything is written."""
    path, target = write_family_gguf("qwen3_moe", tmp_path, changes=changes), tmp_path / "out"
    target.mkdir()
    with pytest.raises(error, match=words):
        convert(open_model(path), target, ConvertOptions("tiny", "0" * 12, "fp32"))
    assert not list(target.iterdir())


@pytest.mark.parametrize(
    ("counts", "error", "words"),
    [
        ([0, 1], FormatError, "`lfm2.attention.head_count_kv` is .*, expected 3 whole numbers from 0"),
        ([0, 1, 2], UnsupportedModel, r"has layers of \[1, 2\] KV heads, expected one number"),
        ([0, 0, 0], UnsupportedModel, r"has layers of \[\] KV heads, expected one number"),
    ],
)
def test_heads_by_layer_that_do_not_fit_are_refused(
    counts: list[int], error: type[Exception], words: str, tmp_path: Path
) -> None:
    """No heads mean a convolution, and there must be attention somewhere."""
    path = write_family_gguf("lfm2", tmp_path, changes={"attention.head_count_kv": counts})
    with pytest.raises(error, match=words):
        open_model(path)


@pytest.mark.parametrize("missing", ["expert_feed_forward_length", "expert_shared_feed_forward_length"])
def test_widths_that_older_files_leave_out_are_worked_out(missing: str, tmp_path: Path) -> None:
    """As llama.cpp does: the width of an expert from that of all that are chosen, that of the shared one as it is."""
    path = write_family_gguf("qwen2_moe", tmp_path, changes={missing: None})
    assert open_model(path).config["moe_intermediate_size"] == 32
    assert open_model(path).config["shared_expert_intermediate_size"] == 64


def test_mxfp4_blocks_are_those_of_the_folder(tmp_path: Path) -> None:
    """Both kinds of files hold the same numbers in another order, for every expert."""
    folder = open_model(golden_model("gpt_oss_mxfp4", tmp_path / "folder").folder).tensors
    file = open_model(write_family_gguf("gpt_oss_mxfp4", tmp_path, "MXFP4")).tensors
    names = [name for name in folder if folder.info(name).dtype == "MXFP4"]
    assert len(names) == 2 * 4 * 3  # layers, experts, matrices
    for name in names:
        assert file.info(name) == folder.info(name)
        assert file.blocks(name).tobytes() == folder.blocks(name).tobytes()
        assert file.read(name, 3, 9).tobytes() == folder.read(name, 3, 9).tobytes()


@pytest.mark.parametrize("variant", WRITTEN)
def test_blocks_travel_with_their_rows(variant: str, tmp_path: Path) -> None:
    """Q8_0 blocks are imported as they are, also where rows are reordered or a tensor is split."""
    prompt, expected = folder_logits(variant, tmp_path)
    found = logits(write_family_gguf(variant, tmp_path, "Q8_0"), tmp_path / "found", prompt, "exact")
    assert np.sqrt(((found - expected) ** 2).mean()) < 0.06 * expected.std()
