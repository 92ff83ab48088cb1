"""What is half made is out of sight, and stays only where somebody may go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastslm.errors import Cancelled, ConnectionLost, ConversionFailed, FastSLMError
from fastslm.store.staging import drop, place_of, staged, staging_path, stagings, subject_of

SUBJECT = {"name": "org/name", "commit": "abc"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a model belongs."""
    return tmp_path / "models" / "org--name" / "abc-int4"


def test_a_complete_folder_takes_its_place(target: Path) -> None:
    """And nothing else is left."""
    with staged(target, SUBJECT) as staging:
        (staging.model / "model.onnx").write_text("graph")
        staging.publish()
    assert [path.name for path in target.iterdir()] == ["model.onnx"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), ConnectionLost("gone", url="http://x")])
def test_an_interruption_keeps_the_weights(target: Path, error: BaseException) -> None:
    """The next run finds them, and nothing that lay beside them."""

    def interrupted() -> None:
        with staged(target, SUBJECT) as staging:
            (staging.model / "model.onnx.data").write_text("weights")
            (staging.model / "model.onnx").write_text("graph")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    with staged(target, SUBJECT) as staging:
        assert [path.name for path in staging.model.iterdir()] == ["model.onnx.data"]


def test_a_failure_leaves_nothing(target: Path) -> None:
    """What is wrong with a model will be wrong again."""
    with pytest.raises(ConversionFailed), staged(target, SUBJECT):
        raise ConversionFailed("tensor `x` holds `nan`", stage="reading weights")
    assert not list(target.parent.iterdir())


def test_other_bytes_have_another_place(target: Path) -> None:
    """Whatever decides them."""
    assert staging_path(target, SUBJECT) != staging_path(target, {**SUBJECT, "context": 5})


def test_what_nobody_goes_on_with_is_dropped(target: Path) -> None:
    """By the name of the model."""
    with pytest.raises(FastSLMError), staged(target, SUBJECT):
        raise Cancelled
    models_dir = target.parent.parent
    (left,) = stagings(models_dir)
    assert (place_of(left), subject_of(left)["name"]) == (target, "org/name")
    assert drop(models_dir, "org/other") == 0
    assert drop(models_dir, "org/name") > 0
    assert not stagings(models_dir)
