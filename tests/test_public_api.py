"""The public face: its names, its cost, its silence."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastslm

HEAVY = ["onnxruntime", "onnx", "numba", "huggingface_hub", "tokenizers", "jinja2", "gguf", "typer", "rich", "numpy"]


def test_all_names_are_there_and_nothing_else_is_shown() -> None:
    """What `dir(fastslm)` shows is what the documentation promises, and every name can be had."""
    assert dir(fastslm) == sorted(fastslm.__all__)
    for name in fastslm.__all__:
        assert getattr(fastslm, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typing mistake is told as Python tells it."""
    with pytest.raises(AttributeError, match="`fastslm` has no attribute `laod`"):
        _ = fastslm.laod


def test_import_loads_nothing_heavy() -> None:
    """A pipeline pays for what it uses: `import fastslm` loads no library of ours or others."""
    code = f"import sys, fastslm; print([m for m in {HEAVY} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "[]"


def test_help_loads_no_library() -> None:
    """`fastslm --help` answers at once because it loads only the table of commands."""
    code = (
        f"import sys; from fastslm.cli import main; main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
    assert shown.stderr == ""
