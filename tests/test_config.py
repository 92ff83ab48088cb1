"""Settings come from the environment in the way that users of the Hugging Face tools know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastslm.config import DEFAULT_ENDPOINT, Settings, rate_of
from fastslm.errors import UsageError


def test_defaults_follow_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any variable, data lies where other tools put theirs."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    settings = Settings.from_environment({})
    assert settings.hub_cache == tmp_path / ".cache" / "huggingface" / "hub"
    assert settings.home == tmp_path / ".local" / "share" / "fastslm"
    assert (settings.endpoint, settings.token, settings.offline) == (DEFAULT_ENDPOINT, None, False)


def test_the_narrower_variable_wins(tmp_path: Path) -> None:
    """HF_HUB_CACHE over HF_HOME over XDG_CACHE_HOME, as in the official client."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "x"), "HF_HOME": str(tmp_path / "h"), "HF_HUB_CACHE": str(tmp_path / "c")}
    assert Settings.from_environment(env).hub_cache == tmp_path / "c"
    del env["HF_HUB_CACHE"]
    assert Settings.from_environment(env).hub_cache == tmp_path / "h" / "hub"
    del env["HF_HOME"]
    assert Settings.from_environment(env).hub_cache == tmp_path / "x" / "huggingface" / "hub"


@pytest.mark.parametrize(("word", "offline"), [("1", True), ("TRUE", True), ("yes", True), ("0", False), ("", False)])
def test_truth_is_what_hugging_face_takes_for_it(word: str, offline: bool) -> None:
    """1, ON, YES and TRUE in any case."""
    assert Settings.from_environment({"HF_HUB_OFFLINE": word}).offline is offline


def test_the_token_comes_from_the_variable_then_the_file(tmp_path: Path) -> None:
    """A login of the official client is honoured, unless implicit tokens are switched off."""
    (tmp_path / "token").write_text("hf_file\n")
    env = {"HF_HOME": str(tmp_path)}
    assert Settings.from_environment(env).token == "hf_file"
    assert Settings.from_environment({**env, "HF_TOKEN": " hf_env "}).token == "hf_env"
    assert Settings.from_environment({**env, "HF_TOKEN": "hf_env", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}).token is None


def test_the_token_is_not_shown_by_accident(tmp_path: Path) -> None:
    """A settings value that ends up in a log does not carry the secret."""
    assert "hf_secret" not in repr(Settings(home=tmp_path, hub_cache=tmp_path, token="hf_secret"))


def test_an_endpoint_must_be_an_address() -> None:
    """The value found is named."""
    assert Settings.from_environment({"HF_ENDPOINT": "http://mirror:8090/"}).endpoint == "http://mirror:8090"
    with pytest.raises(UsageError, match="`HF_ENDPOINT` is `mirror:8090`"):
        Settings.from_environment({"HF_ENDPOINT": "mirror:8090"})


@pytest.mark.parametrize("value", ["0", "-3", "many", "1.5", "²"])
def test_a_count_must_be_a_whole_number(value: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError, match="FASTSLM_CONNECTIONS"):
        Settings.from_environment({"FASTSLM_CONNECTIONS": value})


@pytest.mark.parametrize(
    ("text", "rate"),
    [("0", 0), ("1000", 1000), ("500K", 512_000), ("1.5m", 1_572_864), ("2G", 2 << 30), (" 5M ", 5 << 20)],
)
def test_a_rate_has_a_unit_or_none(text: str, rate: int) -> None:
    """As curl and wget read it."""
    assert rate_of(text, "x") == rate
    assert Settings.from_environment({"FASTSLM_LIMIT_RATE": text}).limit_rate == rate


@pytest.mark.parametrize("text", ["fast", "-1", "5MB", "1e9", "5 M", "M", "1.2.3", "٣M"])
def test_a_rate_that_cannot_be_meant_is_refused(text: str) -> None:
    """With its setting's name and the value."""
    with pytest.raises(UsageError, match=f"`FASTSLM_LIMIT_RATE` is `{re.escape(text)}`"):
        Settings.from_environment({"FASTSLM_LIMIT_RATE": text})


def test_connections_adapt_unless_told_otherwise() -> None:
    """Sixteen at most; a fixed number on request."""
    assert (Settings.from_environment({}).connections, Settings.from_environment({}).adaptive) == (16, True)
    assert Settings.from_environment({"FASTSLM_ADAPTIVE": "0"}).adaptive is False
    assert Settings.from_environment({}).packed is True
    assert Settings.from_environment({"FASTSLM_PACKED": "0"}).packed is False


def test_proxies_are_read_in_both_cases() -> None:
    """The lower case wins, as in curl."""
    env = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1", "NO_PROXY": "localhost"}
    assert Settings.from_environment(env).proxies == {"https": "http://lower:1", "no": "localhost"}


def test_the_certificate_file_must_be_there(tmp_path: Path) -> None:
    """Else every connection would fail with a word about the server that is not to blame."""
    bundle = tmp_path / "bundle.pem"
    for wrong in (bundle, tmp_path):
        with pytest.raises(UsageError, match=f"`SSL_CERT_FILE` is `{wrong}`"):
            Settings.from_environment({"SSL_CERT_FILE": str(wrong)})
    bundle.touch()
    assert Settings.from_environment({"SSL_CERT_FILE": str(bundle)}).ca_file == bundle
