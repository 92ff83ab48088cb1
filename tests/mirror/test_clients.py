"""Real clients against a mirror: ours, the official one, and transformers where it is installed."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import FileMissing, ModelNotFound, RevisionNotFound
from fastslm.hub import Wishes, fetch_model, parse
from fastslm.hub.client import library_generation
from fastslm.mirror.shelf import Shelf
from fastslm.mirror.stock import LocalStock
from mirror.conftest import EVERYTHING
from support.mirror_server import mirroring
from support.official import run_official, tree_of
from support.tiny_tokenizers import byte_level


def test_our_client_gets_the_same_cache(mirror: str, shelf: Shelf, pupil: Settings) -> None:
    """Blobs, links, refs and listings of pupil and teacher are equal, byte for byte."""
    fetched = fetch_model(parse("org/tiny"), dataclasses.replace(pupil, endpoint=mirror), EVERYTHING)
    ours, theirs = (tree_of(root / "models--org--tiny") for root in (pupil.hub_cache, shelf.root))
    assert ours == theirs
    assert fetched.commit == shelf.commit_of("org/tiny", "main")


def test_packed_tensors_are_fewer_bytes_and_the_same_file(
    mirror: str, pupil: Settings, weights: bytes, tmp_path: Path
) -> None:
    """Between two fastslm about a third of the weights is not sent; switched off, every byte is."""
    only = Wishes(include=("model.safetensors",))
    alone = dataclasses.replace(pupil, endpoint=mirror, connections=1)  # nothing is asked for twice when it is late
    packed = fetch_model(parse("org/tiny"), alone, only)
    plain_settings = dataclasses.replace(alone, hub_cache=tmp_path / "plain", packed=False)
    plain = fetch_model(parse("org/tiny"), plain_settings, only)
    assert (packed.path / "model.safetensors").read_bytes() == weights
    assert (plain.path / "model.safetensors").read_bytes() == weights
    assert plain.wire_bytes == len(weights)
    assert packed.wire_bytes < 0.8 * len(weights)


def test_the_official_client_is_content(mirror: str, tmp_path: Path, files: dict[str, bytes]) -> None:
    """Snapshot, single files, information, listing and its own verification; a second call finds everything."""
    script = """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    api, folder = HfApi(), snapshot_download("org/tiny")
    assert snapshot_download("org/tiny") == folder
    verify = getattr(api, "verify_repo_checksums", None)
    result = {
        "folder": folder,
        "one": hf_hub_download("gpt2", "config.json"),
        "mismatches": len(verify("org/tiny").mismatches) if verify else 0,
        "checked": verify("org/tiny").checked_count if verify else 6,
        "sizes": {s.rfilename: s.size for s in api.model_info("org/tiny", files_metadata=True).siblings},
        "paths": sorted(p.path for p in api.get_paths_info("org/tiny", ["config.json", "sub folder", "none"])),
        "top": sorted(e.path for e in api.list_repo_tree("org/tiny")),
        "branches": [b.name for b in api.list_repo_refs("org/tiny").branches],
    }
    """
    found = run_official(script, endpoint=mirror, cache=tmp_path / "official")
    for path, data in files.items():
        assert (Path(found["folder"]) / path).read_bytes() == data
    assert found["sizes"] == {path: len(data) for path, data in files.items()}
    assert (found["mismatches"], found["checked"], found["branches"]) == (0, len(files), ["main"])
    assert found["paths"] == ["config.json", "sub folder"]
    assert found["top"] == sorted({path.split("/")[0] for path in files})


def test_the_official_client_names_what_is_missing(mirror: str, tmp_path: Path) -> None:
    """Repository, revision and file are told apart, as at the hub."""
    script = """
    from huggingface_hub import hf_hub_download
    result = []
    for repo, path, revision in (("org/no", "x", None), ("org/tiny", "x", None), ("org/tiny", "config.json", "no")):
        try:
            hf_hub_download(repo, path, revision=revision)
        except Exception as error:
            result.append([type(e).__name__ for e in type(error).__mro__ and [error]][0])
    """
    found = run_official(script, endpoint=mirror, cache=tmp_path / "official")
    assert [name.removeprefix("Remote") for name in found] == [
        "RepositoryNotFoundError",
        "EntryNotFoundError",
        "RevisionNotFoundError",
    ]


def test_our_client_names_what_is_missing(mirror: str, pupil: Settings) -> None:
    """With our own errors."""
    settings = dataclasses.replace(pupil, endpoint=mirror)
    for name, error in (("org/no", ModelNotFound), ("org/tiny@no", RevisionNotFound)):
        with pytest.raises(error):
            fetch_model(parse(name), settings)
    with pytest.raises(FileMissing):
        fetch_model(parse("org/tiny"), settings, Wishes(include=("nothing*",)))


@pytest.mark.skipif(
    find_spec("transformers") is None or library_generation() < 1, reason="needs transformers, and its generation"
)
def test_transformers_loads_from_a_mirror(shelf: Shelf, teacher: Settings, hub: object, tmp_path: Path) -> None:
    """Configuration and tokenizer, by name, with nothing but HF_ENDPOINT changed."""
    tokenizer = byte_level().to_str().encode()
    llama = b'{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}'
    hub.add_repo(  # type: ignore[attr-defined]
        "org/words",
        {
            "config.json": llama,
            "tokenizer.json": tokenizer,
            "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast"}',
        },
    )
    fetch_model(parse("org/words"), teacher, EVERYTHING)
    script = """
    from transformers import AutoConfig, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("org/words")
    result = [AutoConfig.from_pretrained("org/words").hidden_size, tokenizer.decode(tokenizer.encode("hello"))]
    """
    with mirroring(LocalStock(shelf)) as address:
        assert run_official(script, endpoint=address, cache=tmp_path / "official") == [64, "hello"]
