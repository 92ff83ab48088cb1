"""Converted tiny encoders give the vectors and scores that transformers gives, padding or not: every family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastslm.errors import FormatError, UnsupportedModel
from fastslm.export.convert import convert
from fastslm.export.families import ENCODERS
from fastslm.export.hparams import Hparams
from fastslm.export.options import ConvertOptions
from fastslm.formats import open_model
from fastslm.formats.model_folder import classic_rope
from fastslm.store.manifest import ModelManifest
from support.golden_encoders import VARIANTS, GoldenEncoder, described, golden_encoder, kept, run_graph

FP32 = 1e-4

Converted = Callable[[str, str], tuple[GoldenEncoder, Path]]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Converts a variant to a precision, once for all tests."""
    done: dict[tuple[str, str], tuple[GoldenEncoder, Path]] = {}

    def get(variant: str, precision: str) -> tuple[GoldenEncoder, Path]:
        if (variant, precision) not in done:
            golden = golden_encoder(variant, tmp_path_factory.mktemp("source"))
            target = tmp_path_factory.mktemp(precision)
            convert(open_model(golden.folder), target, ConvertOptions("tiny", "0" * 12, precision))
            done[variant, precision] = golden, target
        return done[variant, precision]

    return get


def test_every_family_has_a_golden_model() -> None:
    """What the README's table lists is tested against transformers."""
    assert {described(variant)["config"]["model_type"] for variant in VARIANTS} == set(ENCODERS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_padded_batch_gives_what_transformers_gives(variant: str, converted: Converted) -> None:
    """Windows, rotations, biases by distance, kinds of text, pooling and heads are computed, not skipped."""
    golden, folder = converted(variant, "fp32")
    mask = golden.batch["attention_mask"]
    found = run_graph(folder, golden.batch)
    np.testing.assert_allclose(kept(found, mask), kept(golden.expected, mask), atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_text_alone_is_as_in_a_batch(variant: str, converted: Converted) -> None:
    """The padding of a longer neighbour changes nothing."""
    golden, folder = converted(variant, "fp32")
    length = int(golden.batch["attention_mask"][1].sum())
    alone = {name: array[1:, :length] for name, array in golden.batch.items()}
    expected = golden.expected[1:, :length] if golden.expected.ndim == 3 else golden.expected[1:]
    np.testing.assert_allclose(run_graph(folder, alone), expected, atol=FP32)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.06), ("int4", 0.5)])
def test_quantised_encoders_stay_close(variant: str, precision: str, bound: float, converted: Converted) -> None:
    """Root mean square error of the token vectors, as a part of their spread; of few scores, as a part of one."""
    golden, folder = converted(variant, precision)
    mask = golden.batch["attention_mask"]
    expected = kept(golden.expected, mask)
    error = kept(run_graph(folder, golden.batch), mask) - expected
    assert np.sqrt((error**2).mean()) < bound * max(1.0, expected.std())


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_generations_of_configurations_mean_the_same(variant: str, tmp_path: Path) -> None:
    """transformers 5 writes rotary parameters, layer types and names of values otherwise than the hub."""
    tensors = frozenset(open_model(golden_encoder(variant, tmp_path).folder).tensors)
    shapes = []
    for wording in ("config", "newer"):
        config = Hparams(classic_rope(described(variant)[wording]))
        shapes.append(ENCODERS[config.get("model_type")].read_shape(config, tensors))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_manifest_says_what_the_model_is_for(variant: str, converted: Converted) -> None:
    """Vectors or scores, and how long a text may be."""
    facts = ModelManifest.read(converted(variant, "fp32")[1]).encoder
    assert facts is not None
    assert facts.task == ("classify" if variant.endswith("classifier") else "embed")
    assert facts.max_tokens == (62 if "roberta" in variant or "mpnet" in variant else 64)


def test_the_first_berts_spell_their_norms_otherwise(tmp_path: Path) -> None:
    """Files of 2018 say gamma and beta."""
    config = Hparams(described("bert")["config"])
    names = frozenset(open_model(golden_encoder("bert", tmp_path).folder).tensors)
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        for name in names
    }
    wanted = {tensor.name for tensor in ENCODERS["bert"].read_shape(config, older).tensors()}
    assert wanted <= older
    assert len([name for name in wanted if name.endswith("gamma")]) == 5


@pytest.mark.parametrize(
    ("variant", "changes", "reason"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "`position_embedding_type` is `relative_key`"),
        ("bert", {"is_decoder": True}, "`is_decoder` is `True`"),
        ("bert_classifier", {"id2label": {str(n): "x" for n in range(20_000)}}, "`num_labels` is `20000`"),
        ("roberta", {"pad_token_id": 5}, "`pad_token_id` is `5`"),
        ("roberta", {"max_position_embeddings": 2}, "`max_position_embeddings` is `2`"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "`relative_attention_num_buckets` is `64`"),
        ("nomic", {"prenorm": True}, "`prenorm` is `True`"),
        ("nomic", {"rotary_scaling_factor": 2}, "`rotary_scaling_factor` is `2`"),
        ("nomic", {"architectures": ["NomicBertForSequenceClassification"]}, "`architectures`"),
        ("modernbert", {"layer_types": ["full_attention"]}, "`layer_types`"),
        ("modernbert_classifier", {"classifier_pooling": "max"}, "`classifier_pooling` is `max`"),
    ],
)
def test_options_that_we_do_not_build_are_refused(variant: str, changes: dict[str, object], reason: str) -> None:
    """A wrong vector looks like a right one, so nothing is passed over."""
    config = Hparams({**described(variant)["config"], **changes})
    with pytest.raises((UnsupportedModel, FormatError), match=reason):
        ENCODERS[config.get("model_type")].read_shape(config, frozenset())


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    """The pooler and heads for other uses may be there, anything else would be missing from the graph."""
    golden = golden_encoder("bert", tmp_path / "source")
    source = open_model(golden.folder)
    config = {**source.config, "num_hidden_layers": 1}
    (tmp_path / "target").mkdir()
    with pytest.raises(UnsupportedModel, match=r"tensor `encoder\.layer\.1\..*` has no place"):
        convert(replace(source, config=config), tmp_path / "target", ConvertOptions("tiny", "0", "fp32"))
    assert list((tmp_path / "target").iterdir()) == []
