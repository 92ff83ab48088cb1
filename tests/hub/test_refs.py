"""Names of models: what a user may type, and what a clear answer to a wrong one is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslm.errors import FastSLMError, ModelNotFound, UsageError
from fastslm.hub.refs import is_safe_path, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "repo", "revision", "file"),
    [
        ("org/name", "org/name", "", ""),
        ("  org/name \n", "org/name", "", ""),
        ("gpt2", "gpt2", "", ""),
        ("org/name@main", "org/name", "main", ""),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1", ""),
        (f"org/name@{COMMIT}", "org/name", COMMIT, ""),
        ("org/name@v1.0", "org/name", "v1.0", ""),
        ("org/name/model.Q4_0.gguf", "org/name", "", "model.Q4_0.gguf"),
        ("org/name/sub/model.gguf@dev", "org/name", "dev", "sub/model.gguf"),
        ("smollm2:135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "", ""),
        ("SmolLM2", "HuggingFaceTB/SmolLM2-135M-Instruct", "", ""),
        ("qwen3:0.6b@main", "Qwen/Qwen3-0.6B", "main", ""),
        ("hf.co/org/name", "org/name", "", ""),
        ("huggingface.co/org/name", "org/name", "", ""),
        ("https://huggingface.co/org/name", "org/name", "", ""),
        ("https://huggingface.co/org/name/", "org/name", "", ""),
        ("https://www.huggingface.co/gpt2", "gpt2", "", ""),
        ("https://huggingface.co/org/name/tree/main", "org/name", "main", ""),
        ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", "org/name", "refs/pr/1", ""),
        ("https://huggingface.co/org/name/tree/refs/pr/1", "org/name", "refs/pr/1", ""),
        ("https://huggingface.co/org/name/blob/main/m.gguf?download=true", "org/name", "main", "m.gguf"),
        ("https://huggingface.co/org/name/resolve/v2/a%20b/m.gguf", "org/name", "v2", "a b/m.gguf"),
        ("https://huggingface.co/org/name/blob/main/config.json", "org/name", "main", ""),
    ],
)
def test_spellings_of_a_repository(text: str, repo: str, revision: str, file: str) -> None:
    """However it is written or pasted from the browser, it means the same repository."""
    ref = parse(text)
    assert (ref.kind, ref.repo, ref.revision, ref.file) == ("hub", repo, revision, file)


def test_canonical_names_are_read_back_as_themselves() -> None:
    """The name in the registry can be typed again."""
    for text in ("org/name", "org/name@refs/pr/1", "org/name/x/y.gguf@dev", "gpt2", "demo", "smollm2"):
        ref = parse(text)
        assert parse(ref.name).name == ref.name


def test_short_names_are_remembered_beside_the_repository() -> None:
    """The short name and its repository are one model."""
    assert parse("smollm2").alias == "smollm2:135m"
    assert parse("smollm2").name == parse("HuggingFaceTB/SmolLM2-135M-Instruct").name


def test_the_demo() -> None:
    """`demo` needs no more words."""
    assert parse("demo").kind == "demo"


def test_addresses_of_gguf_files() -> None:
    """Any https address of a GGUF; the fragment and the case of the host do not matter."""
    ref = parse("HTTPS://Example.org/models/tiny%20one.gguf?key=1#top")
    assert (ref.kind, ref.file) == ("url", "tiny one.gguf")
    assert ref.url == "https://example.org/models/tiny%20one.gguf?key=1"


def test_the_configured_endpoint_is_a_hub_too() -> None:
    """A mirror's addresses mean its repositories, also without TLS and below a path."""
    ref = parse("http://mirror.local:8080/hf/org/name/resolve/main/m.gguf", endpoint="http://mirror.local:8080/hf")
    assert (ref.kind, ref.repo, ref.file) == ("hub", "org/name", "m.gguf")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "a/b/c",
        "org/na me",
        "org/",
        "/",
        "org/name@",
        "org/name@a b",
        "org/name@../../x",
        "-org/name",
        "org/..",
        "org/na--me",
        "org/name.git",
        "org/name/../../x.gguf",
        "ftp://example.org/m.gguf",
        "http://example.org/m.gguf",
        "https://example.org/m.rar",
        "https://user:secret@example.org/m.gguf",
        "https://huggingface.co/datasets/org/name",
        "https://huggingface.co/",
        "https://huggingface.co/org/name/tree",
        "https://[bad/m.gguf",
        "org/name\x00",
        "o" * 97,
    ],
)
def test_what_cannot_be_a_model_is_refused(text: str) -> None:
    """Wrong names fail at once with the right class, before any request."""
    if text == "/":
        assert parse(text).kind == "local"  # the root folder exists
        return
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "`" in str(caught.value)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(("text", "near"), [("smolm2:135m", "smollm2:135m"), ("qwen3:06b", "qwen3:0.6b")])
def test_misspelt_short_names_get_suggestions(text: str, near: str) -> None:
    """A colon can only mean the catalogue, so the nearest names of it are offered."""
    with pytest.raises(ModelNotFound) as caught:
        parse(text)
    assert near in caught.value.nearest


def test_local_paths_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that looks like one is never taken for a repository."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("model.gguf", "./model.gguf", str(tmp_path / "model.gguf"), "~/model.gguf"):
        assert parse(text).path == (tmp_path / "model.gguf").resolve()
    assert parse("./folder").kind == "local"
    with pytest.raises(ModelNotFound) as caught:
        parse("./modle.gguf")
    assert caught.value.nearest == ("model.gguf",)


def test_a_folder_does_not_hide_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`org/name` is the hub's even when a folder has that name; `./org/name` is the folder."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse("org/name").kind == "hub"
    assert parse("./org/name").kind == "local"


@given(st.text(max_size=60))
def test_any_text_is_a_model_or_a_clear_error(text: str) -> None:
    """No text makes the parser stumble."""
    try:
        ref = parse(text)
    except FastSLMError:
        return
    assert ref.name


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../b", "a//b", "C:/x", "a\\b", "", "a\nb", ".", "a/.", "x" * 300, "C:x"]
)
def test_unsafe_file_names(path: str) -> None:
    """None of these may become a path on disk."""
    assert not is_safe_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.json", "a b/ü.txt", ".gitattributes", "..x", "a/b..c"])
def test_safe_file_names(path: str) -> None:
    """Ordinary names, with spaces and letters of every alphabet."""
    assert is_safe_path(path)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:SECRET@example.org/m.gguf",
        "https://user:SECRET@example.org:port/m.gguf",
        "https://user:SE/CRET@example.org/m.gguf",
        "https://example.org/m.rar?key=SECRET",
        "http://example.org/m.gguf?key=SECRET",
        "ftp://user:SECRET@example.org/m.gguf?key=SECRET",
        "https://huggingface.co/?key=SECRET",
        "https://example.org/m.gguf?key=SECRET\x07",
    ],
)
def test_secrets_of_an_address_are_not_repeated(text: str) -> None:
    """Whatever else is wrong with it."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert not {"SECRET", "CRET"} & set(re.findall("[A-Z]{4,}", f"{caught.value} {vars(caught.value)}"))


def test_a_name_carries_the_hash_of_a_query() -> None:
    """So that two addresses stay two models; the name is read back as itself and has no address to ask."""
    first, second = parse("https://example.org/m.gguf?key=1"), parse("https://example.org/m.gguf?key=2")
    assert first.name != second.name
    assert first.name.startswith("https://example.org/m.gguf#query-")
    again = parse(first.name)
    assert (again.name, again.url, again.file) == (first.name, "", "m.gguf")
