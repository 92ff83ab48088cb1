"""What will happen to a model is known before its weights are fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastslm import api, can_convert
from fastslm.config import Settings
from fastslm.errors import FileMissing, ModelNotFound, NetworkError
from fastslm.export import optimum
from fastslm.store.registry import Registry
from fastslm.verdict import Verdict
from support.golden import FAMILY_VARIANTS, described
from support.golden_encoders import VARIANTS as ENCODER_VARIANTS
from support.golden_encoders import described as encoder_described
from support.hub_server import FakeHub
from support.optimum import optimum_source
from support.tiny_encoder import encoder_source
from support.tiny_files import write_llama_gguf

QWEN = described("qwen3")["config"]
TEXTS = {"tokenizer.json": b"{}", "README.md": b"# x\n"}


def folder_of(config: object, tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(tmp_path / "model")


def settings_for(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return Settings.from_environment()


@pytest.mark.parametrize("wording", ["config", "newer"])
@pytest.mark.parametrize("variant", FAMILY_VARIANTS)
def test_every_family_is_known_by_its_configuration(variant: str, wording: str, tmp_path: Path) -> None:
    """A folder with nothing but config.json is enough, whichever transformers wrote it."""
    verdict = can_convert(folder_of(described(variant)[wording], tmp_path))
    assert (verdict.convertible, verdict.backend, verdict.reason) == (True, "native", "")
    assert verdict.architecture == described(variant)["config"]["model_type"]
    assert verdict.num_layers in (2, 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, "`model_type` is `mamba`, expected llama or "),
        ({"model_type": None}, "`model_type` is `None`"),
        ({"hidden_size": None}, "the model's configuration has no `hidden_size`"),
        ({"hidden_act": "mish"}, "`hidden_act` is `mish`"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "the weights are quantised by `'bitsandbytes'`"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 3}},
            "`quantization_config.bits` is `3`",
        ),
        ({"rope_parameters": 3}, "`rope_parameters`"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    """The same sentence that a conversion would fail with."""
    verdict = can_convert(folder_of({**QWEN, **changes}, tmp_path))
    assert (verdict.convertible, verdict.backend) == (False, "")
    assert reason in verdict.reason


@pytest.mark.parametrize("variant", ENCODER_VARIANTS)
def test_encoders_are_known_too(variant: str, tmp_path: Path) -> None:
    """By their configuration alone, with a head for scores or without."""
    verdict = can_convert(folder_of(encoder_described(variant)["config"], tmp_path))
    assert (verdict.convertible, verdict.backend, verdict.num_layers in (2, 4)) == (True, "native", True)


def test_what_we_do_not_write_is_left_to_optimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is installed; else the answer says what is missing, and of which extra."""
    folder = folder_of({**QWEN, "model_type": "mamba"}, tmp_path)
    monkeypatch.setattr(optimum, "MODULES", ("a_module_that_nobody_has",))
    verdict = can_convert(folder)
    assert not verdict.convertible
    assert "needs `a_module_that_nobody_has`, of the extra `export`" in verdict.reason
    monkeypatch.setattr(optimum, "missing", lambda: "")
    verdict = can_convert(folder)
    assert (verdict.convertible, verdict.backend) == (True, "optimum")
    assert "`model_type` is `mamba`" in verdict.reason


def test_a_ready_made_graph_is_run_as_it_is(tmp_path: Path) -> None:
    """Whatever its architecture."""
    verdict = can_convert(str(optimum_source(tmp_path / "made", "bert")))
    assert (verdict.convertible, verdict.backend, verdict.architecture) == (True, "onnx", "bert")


def test_a_listing_with_nothing_but_a_graph_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of exports only."""
    with FakeHub() as hub:
        config = json.dumps({**QWEN, "model_type": "unheard_of"}).encode()
        hub.add_repo("org/onnx", {"config.json": config, "onnx/model_q4.onnx": b"x", **TEXTS})
        verdict = can_convert("org/onnx", settings=settings_for(hub, monkeypatch))
        assert (verdict.convertible, verdict.backend) == (True, "onnx")


def test_names_mean_here_what_they_mean_elsewhere(settings: Settings, tmp_path: Path) -> None:
    """A copy is known by its second name, a converted folder by its path."""
    source = encoder_source(tmp_path / "source")
    pulled = api.pull(str(source), settings=settings)
    folder = pulled.path
    Registry(settings.registry_file).copy(pulled.entry, "mine")
    assert can_convert("mine", settings=settings).architecture == "bert"
    assert can_convert(str(folder), settings=settings).backend == "native"


def test_a_gguf_file_is_judged_by_its_header(tmp_path: Path) -> None:
    """It says the same as a configuration."""
    write_llama_gguf(tmp_path / "tiny.gguf")
    verdict = can_convert(str(tmp_path / "tiny.gguf"))
    expected = Verdict(verdict.name, True, "native", "llama", verdict.family, context_length=128, num_layers=2)
    assert verdict == expected


def test_only_the_configuration_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes of weights stay where they are."""
    with FakeHub() as hub:
        files = {"config.json": json.dumps(QWEN).encode(), "model.safetensors": b"x" * 5000, **TEXTS}
        hub.add_repo("org/tiny", files)
        verdict = can_convert("org/tiny", settings=settings_for(hub, monkeypatch))
        assert (verdict.convertible, verdict.name) == (True, "org/tiny")
        bodies = [request.path for request in hub.log(method="GET") if "/api/models/" not in request.path]
        assert [path.rpartition("/")[2] for path in bodies] == ["config.json"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"model.pt": b"x", **TEXTS}, "the only weights are pickled (`model.pt`)"),
        ({"model.safetensors": b"x", "vocab.json": b"{}"}, "`org/tiny` has no `tokenizer.json`"),
    ],
)
def test_the_listing_tells_what_else_is_missing(
    files: dict[str, bytes], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound configuration is of no use without weights and tokenizer that we read."""
    with FakeHub() as hub:
        hub.add_repo("org/tiny", {"config.json": json.dumps(QWEN).encode(), **files})
        verdict = can_convert("org/tiny", settings=settings_for(hub, monkeypatch))
        assert not verdict.convertible
        assert reason in verdict.reason


def test_what_was_asked_before_is_known_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration lies in the cache."""
    with FakeHub() as hub:
        hub.add_repo("org/tiny", {"config.json": json.dumps(QWEN).encode(), "model.safetensors": b"x", **TEXTS})
        settings = settings_for(hub, monkeypatch)
        assert can_convert("org/tiny", settings=settings).convertible
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert can_convert("org/tiny", settings=Settings.from_environment()).convertible


def test_not_knowing_is_not_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such model, no configuration, nobody there: errors with their own exit codes."""
    with FakeHub() as hub:
        settings = settings_for(hub, monkeypatch)
        hub.add_repo("org/gguf", {"x.Q4_0.gguf": b"x"})
        with pytest.raises(ModelNotFound):
            can_convert("org/none", settings=settings)
        with pytest.raises(FileMissing, match=r"config\.json|no file to fetch"):
            can_convert("org/gguf", settings=settings)
        with pytest.raises(FileMissing, match="a GGUF file says what it is only when it is here"):
            can_convert("demo", settings=settings)
    with pytest.raises(NetworkError):
        can_convert("org/tiny", settings=settings)
