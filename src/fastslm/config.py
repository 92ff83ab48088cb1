"""Settings and paths: the only reader of environment variables.

A ``Settings`` is a frozen value made once by the caller (the command line, a test, a library user) and handed
down. Nothing here touches the network; of the disk only the token file is read, and the certificate file asked for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastslm.errors import UsageError

TRUE_WORDS = frozenset({"1", "on", "yes", "true"})
"""What the Hugging Face tools take for true, in any case."""

FALSE_WORDS = frozenset({"0", "off", "no", "false"})

DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class Settings:
    """Where things are and how we may behave.

    Attributes:
        home: our own folder: registry, converted models, partial state, machine facts.
        hub_cache: the Hugging Face cache that downloads go to, shared with every other tool.
        endpoint: origin of the hub, without a trailing slash.
        token: access token of the hub, or None.
        offline: never use the network.
        use_symlinks: link snapshots to blobs (else the blob is moved to the snapshot).
        connections: most parallel connections of one download.
        adaptive: use as many of them as raise the total rate; False: always all.
        limit_rate: bytes per second of a download, 0 for no limit.
        mirrors: addresses of further hubs with the same files; only the hashes are trusted.
        packed: ask mirrors for packed tensors, which are fewer bytes.
        proxies: scheme (``http``, ``https``, ``all``, ``no``) to proxy address or exception list.
        ca_file: certificate bundle to trust, or None for the system's.
        threads: threads for generation, 0 for the number that suits this machine.
    """

    home: Path
    hub_cache: Path
    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    use_symlinks: bool = True
    connections: int = 16
    adaptive: bool = True
    limit_rate: int = 0
    mirrors: tuple[str, ...] = ()
    packed: bool = True
    proxies: Mapping[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    threads: int = 0

    @property
    def registry_file(self) -> Path:
        """State of every model on this machine."""
        return self.home / "registry.json"

    @property
    def models_dir(self) -> Path:
        """Converted models, one folder each."""
        return self.home / "models"

    @property
    def machine_file(self) -> Path:
        """What was measured on this machine."""
        return self.home / "machine.json"

    @property
    def downloads_dir(self) -> Path:
        """Model files that do not come from a hub repository (an address, the demo)."""
        return self.home / "downloads"

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from environment variables.

        Raises:
            UsageError: a variable has a value that cannot be meant.
        """
        env = os.environ if environ is None else environ
        hf_home = _path(env, "HF_HOME") or _xdg(env, "XDG_CACHE_HOME", ".cache") / "huggingface"
        token_file = _path(env, "HF_TOKEN_PATH") or hf_home / "token"
        return Settings(
            home=_path(env, "FASTSLM_HOME") or _user_data_dir(env) / "fastslm",
            hub_cache=_path(env, "HF_HUB_CACHE") or _path(env, "HUGGINGFACE_HUB_CACHE") or hf_home / "hub",
            endpoint=_endpoint(env),
            token=_token(env, token_file),
            offline=_true(env, "HF_HUB_OFFLINE") or _true(env, "TRANSFORMERS_OFFLINE"),
            use_symlinks=not _true(env, "HF_HUB_DISABLE_SYMLINKS"),
            connections=_count(env, "FASTSLM_CONNECTIONS", 16, least=1),
            adaptive=not _false(env, "FASTSLM_ADAPTIVE"),
            limit_rate=rate_of(env.get("FASTSLM_LIMIT_RATE", "").strip() or "0", "FASTSLM_LIMIT_RATE"),
            packed=not _false(env, "FASTSLM_PACKED"),
            proxies=_proxies(env),
            ca_file=_file(env, "SSL_CERT_FILE"),
            threads=_count(env, "FASTSLM_THREADS", 0, least=0),
        )


def is_plain_terminal(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a terminal should be spared colour and moving bars: ``NO_COLOR`` is set, or it cannot move its cursor."""
    env = os.environ if environ is None else environ
    return bool(env.get("NO_COLOR")) or env.get("TERM", "") in ("", "dumb")


def rate_of(text: str, name: str) -> int:
    """Bytes per second from ``500K``, ``1.5M`` or a plain number (K is 1024, as in curl); 0 is no limit.

    Raises:
        UsageError: anything else, with ``name`` as the name of the setting.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([KMG]?)", text.strip().upper(), re.ASCII)
    if found is None:
        raise UsageError(
            f"`{name}` is `{text}`, expected bytes per second such as `500K` or `5M`", name=name, value=text
        )
    return int(float(found.group(1)) * 1024 ** " KMG".index(found.group(2) or " "))


def _false(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").strip().lower() in FALSE_WORDS


def _true(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").strip().lower() in TRUE_WORDS


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "").strip()
    return Path(text).expanduser().absolute() if text else None


def _file(env: Mapping[str, str], name: str) -> Path | None:
    path = _path(env, name)
    if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
        raise UsageError(f"`{name}` is `{path}`, expected a file that can be read", name=name, value=str(path))
    return path


def _xdg(env: Mapping[str, str], name: str, fallback: str) -> Path:
    return _path(env, name) or Path.home() / fallback


def _user_data_dir(env: Mapping[str, str]) -> Path:
    if sys.platform == "win32":
        return _path(env, "LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return _xdg(env, "XDG_DATA_HOME", ".local/share")


def _endpoint(env: Mapping[str, str]) -> str:
    return checked_endpoint(env.get("HF_ENDPOINT", "").strip() or DEFAULT_ENDPOINT, "HF_ENDPOINT")


def checked_endpoint(text: str, name: str) -> str:
    """The address of a hub, without a trailing slash.

    Raises:
        UsageError: it is no http or https address; ``name`` is the name of the setting.
    """
    text = text.strip().rstrip("/")
    if not text.startswith(("http://", "https://")):
        message = f"`{name}` is `{text}`, expected an address that begins with http:// or https://"
        raise UsageError(message, name=name, value=text)
    return text


def _token(env: Mapping[str, str], token_file: Path) -> str | None:
    if _true(env, "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return None
    given = (env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
    if given:
        return given
    try:
        return token_file.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _count(env: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise UsageError(f"`{name}` is `{text}`, expected a whole number of at least {least}", name=name, value=text)
    return int(text)


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    """Upper and lower case names count, lower case wins, as in curl and the Python library."""
    found: dict[str, str] = {}
    for scheme in ("http", "https", "all", "no"):
        value = env.get(f"{scheme}_proxy") or env.get(f"{scheme.upper()}_PROXY") or ""
        if value.strip():
            found[scheme] = value.strip()
    return found
