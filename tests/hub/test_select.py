"""Which files a pull takes: everything a conversion needs, one copy of the weights, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.errors import FileMissing, UnsupportedModel
from fastslm.hub.select import Wishes, select_files

TEXTS = ["README.md", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


def test_one_safetensors_file_and_no_second_copy() -> None:
    """A repository full of other formats costs no more than its safetensors."""
    paths = [
        *TEXTS,
        "LICENSE",
        "chat_template.jinja",
        "model.safetensors",
        "pytorch_model.bin",
        "model.gguf",
        "onnx/model.onnx",
        "onnx/config.json",
        ".gitattributes",
        "training_args.bin",
        "logo.png",
        "consolidated.safetensors",
    ]
    wanted = {*TEXTS, "LICENSE", "chat_template.jinja", "model.safetensors"}
    assert set(select_files(paths, Wishes())) == wanted


def test_shards_come_with_their_index() -> None:
    """Every shard and the index, but not the consolidated duplicate nor the original folder."""
    shards = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    paths = [*TEXTS, *shards, "model.safetensors.index.json", "consolidated.safetensors", "original/x.pth"]
    assert set(select_files(paths, Wishes())) == {*TEXTS, *shards, "model.safetensors.index.json"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-Q4_0.gguf"], "m-Q4_0.gguf"),
        (["m.q4_k_m.gguf", "m.q8_0.gguf", "m.f16.gguf"], "m.q4_k_m.gguf"),
        (["m-Q4_0_4_4.gguf", "m-Q4_1.gguf"], "m-Q4_1.gguf"),
        (["mmproj-Q4_0.gguf", "m-IQ2_XS.gguf"], "m-IQ2_XS.gguf"),
        (["sub/m-Q4_0.gguf", "m-Q4_0.gguf"], "m-Q4_0.gguf"),
        (["m-F16.gguf", "m-BF16.gguf"], "m-BF16.gguf"),
    ],
)
def test_one_gguf_of_many(names: list[str], chosen: str) -> None:
    """Of twenty quantisations only one is fetched, the one that we run best."""
    assert select_files([*names, "README.md"], Wishes()) == tuple(sorted(["README.md", chosen]))


def test_split_gguf_pickles_and_adapters_are_named() -> None:
    """What we cannot read is said before it is downloaded."""
    with pytest.raises(UnsupportedModel, match="split in 2 parts"):
        select_files(["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], Wishes())
    with pytest.raises(UnsupportedModel, match=r"pickled \(`model.pt`\)"):
        select_files([*TEXTS, "model.pt"], Wishes())
    with pytest.raises(UnsupportedModel, match="adapter"):
        select_files(["adapter_config.json", "adapter_model.safetensors"], Wishes())


def test_pickled_tensors_come_when_there_is_nothing_else() -> None:
    """One file, or the shards of its index; never beside safetensors or GGUF."""
    shards = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    assert set(select_files([*TEXTS, "pytorch_model.bin", "x.pt"], Wishes())) == {*TEXTS, "pytorch_model.bin"}
    index = "pytorch_model.bin.index.json"
    assert set(select_files([*TEXTS, *shards, index], Wishes())) == {*TEXTS, *shards, index}
    assert "pytorch_model.bin" not in select_files(["pytorch_model.bin", "m-Q4_0.gguf"], Wishes())
    with pytest.raises(UnsupportedModel, match="pickled"):
        select_files([*TEXTS, *shards], Wishes())


def test_the_files_of_sentence_transformers_come_too() -> None:
    """Pooling, prompts and lengths, from the top folder and from those of the steps."""
    small = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"]
    paths = [*TEXTS, *small, "model.safetensors", "openvino/config.json", "2_Dense/model.safetensors"]
    assert set(select_files(paths, Wishes())) == {*TEXTS, *small, "model.safetensors"}


def test_an_empty_repository_says_what_is_there() -> None:
    """The message shows the files, at most eight of them."""
    with pytest.raises(FileMissing, match=r"`README\.md`"):
        select_files(["README.md"], Wishes())
    with pytest.raises(FileMissing, match="and 12 more"):
        select_files([f"{n}.png" for n in range(20)], Wishes())


def test_patterns_are_those_of_the_official_client() -> None:
    """`--include` chooses from everything, `--exclude` takes away, a trailing slash means a folder."""
    paths = [*TEXTS, "model.safetensors", "onnx/model.onnx", "onnx/model_q4.onnx", "onnx/config.json"]
    chosen = select_files(paths, Wishes(include=("onnx/",), exclude=("*_q4*",)))
    assert chosen == ("onnx/config.json", "onnx/model.onnx")
    assert "README.md" not in select_files(paths, Wishes(exclude=("*.md",)))
    with pytest.raises(FileMissing):
        select_files(paths, Wishes(include=("*.gguf",)))


def test_a_chosen_file_comes_with_its_texts() -> None:
    """`org/name/file.gguf` takes that file and the small ones beside it."""
    paths = ["config.json", "a-Q4_0.gguf", "a-Q8_0.gguf"]
    assert select_files(paths, Wishes(file="a-Q8_0.gguf")) == ("a-Q8_0.gguf", "config.json")
    with pytest.raises(FileMissing) as caught:
        select_files(paths, Wishes(file="a-Q8_1.gguf"))
    assert "a-Q8_0.gguf" in caught.value.nearest


@given(st.lists(st.sampled_from([*TEXTS, "model.safetensors", "a-Q4_0.gguf", "b/c.safetensors", "x.bin"]), unique=True))
def test_a_selection_is_a_part_of_the_listing_in_any_order(paths: list[str]) -> None:
    """The order of a listing never matters, and nothing is invented."""
    try:
        chosen = select_files(paths, Wishes())
    except (FileMissing, UnsupportedModel):
        return
    assert set(chosen) <= set(paths)
    assert chosen == select_files(paths[::-1], Wishes())
