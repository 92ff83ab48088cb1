"""A gate closes for what cannot work, and for nothing else."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fastslm import machine
from fastslm.config import Settings
from fastslm.errors import DoesNotFit, UnsupportedModel
from fastslm.hub import Wishes, parse, plan_model
from fastslm.hub.client import HubClient
from fastslm.plan.gates import before_download
from fastslm.plan.options import PlanOptions
from support.hub_server import FakeHub, Fault
from support.tiny_files import safetensors_bytes


def pass_gate(hub: FakeHub, settings: Settings, memory_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    here = dataclasses.replace(machine.inspect(), memory_bytes=memory_bytes, available_bytes=memory_bytes)
    monkeypatch.setattr(machine, "inspect", lambda: here)
    settings = dataclasses.replace(settings, endpoint=hub.endpoint)
    ref = parse("tiny/model", endpoint=hub.endpoint)
    gate = before_download(ref, settings, PlanOptions())
    gate(plan_model(ref, settings, Wishes()), HubClient(settings))


def add_model(hub: FakeHub, model_type: str) -> None:
    header = {"t": {"dtype": "U8", "shape": [1000], "data_offsets": [0, 1000]}}
    files = {"config.json": json.dumps({"model_type": model_type}).encode()}
    hub.add_repo("tiny/model", {**files, "model.safetensors": safetensors_bytes(header, bytes(1000))})


def test_a_small_download_is_not_looked_at(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs no request, and an unknown architecture is left to the conversion."""
    with FakeHub() as hub:
        add_model(hub, "mamba")
        pass_gate(hub, settings, 10**9, monkeypatch)
        assert hub.log("cdn") == []


def test_a_large_one_of_an_unknown_kind_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before hours of download."""
    with FakeHub() as hub:
        add_model(hub, "mamba")
        with pytest.raises(UnsupportedModel, match="mamba"):
            pass_gate(hub, settings, 1000, monkeypatch)


def test_headers_that_cannot_be_read_are_left_to_the_download(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad line is no reason to refuse a model; a file that is no model is told when it is here, by its hash."""
    with FakeHub() as hub:
        add_model(hub, "llama")
        fault = hub.add_fault(Fault("shift", path="safetensors"))
        pass_gate(hub, settings, 1000, monkeypatch)
        fault.times = 0
        pass_gate(hub, settings, 1000, monkeypatch)  # a configuration without sizes


def test_what_does_not_fit_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With both numbers."""
    from support.tiny_files import write_llama_gguf

    source = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_llama_gguf(source)
    with FakeHub() as hub:
        hub.add_repo("tiny/model", {"m.Q8_0.gguf": source.read_bytes()})
        with pytest.raises(DoesNotFit) as found:
            pass_gate(hub, settings, 10**6, monkeypatch)
        assert found.value.available == 10**6
