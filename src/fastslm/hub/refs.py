"""What a user calls a model: one grammar and one parser, from text to ``ModelRef``.

    demo                                   the demo model of the catalogue
    ./x  ../x  /x  ~/x  x.gguf             a local folder or file; it must exist
    smollm2:135m  smollm2                  short names of the catalogue, the second for the family's default size
    org/name  gpt2  [@revision]            a hub repository; branch, tag, ``refs/pr/1`` or commit
    org/name/file.gguf[@revision]          one file of a repository
    https://huggingface.co/org/name/...    the same, as the browser shows it; the scheme may be left out
    https://host/path/file.gguf            any other address of a GGUF file, or of an archive with a model in it:
                                           .gguf.gz .gguf.zst .zip .whl .tar .tar.gz .tgz .tar.zst

The query of an address may be a secret: a name carries its hash (``#query-…``), and no message repeats it.
Nothing here touches the network; of the disk only the existence of local paths is asked.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import SplitResult, quote, unquote, urlsplit

from fastslm.config import DEFAULT_ENDPOINT
from fastslm.errors import ModelNotFound, UsageError
from fastslm.hub.catalogue import Catalogue, load_catalogue

Kind = Literal["hub", "local", "url", "demo"]

HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
"""Hosts whose addresses mean repositories, beside the configured endpoint."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""The only hosts, beside the configured endpoint, that may be asked without TLS."""

MODEL_SUFFIXES = (".gguf", ".safetensors")

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_REVISION = re.compile(r"[^\s\x00-\x1f\x7f\\:?*\[~^]{1,250}")
_QUERY_MARK = re.compile(r"query-[0-9a-f]{16}")
_NOT_MODELS = frozenset({"datasets", "spaces", "collections", "papers", "docs", "blog", "settings", "api"})


@dataclass(frozen=True)
class ModelRef:
    """Where a model comes from.

    Attributes:
        kind: which of the other fields count.
        name: canonical name; equal for every spelling of the same thing.
        alias: short name of the catalogue, if that is what was asked for.
        repo: ``org/name`` (or a bare name) on the hub.
        revision: branch, tag or commit; empty for the default branch.
        file: one chosen file of the repository, or empty.
        path: local folder or file.
        url: address of a single file, with its query; empty when only the name of such an address was given.
    """

    kind: Kind
    name: str
    alias: str = ""
    repo: str = ""
    revision: str = ""
    file: str = ""
    path: Path | None = None
    url: str = ""


def parse(name: str, *, endpoint: str = DEFAULT_ENDPOINT) -> ModelRef:
    """Read a model's name; ``endpoint`` is the hub whose addresses mean repositories.

    Raises:
        UsageError: the text can not be a model's name.
        ModelNotFound: a local path or a short name that does not exist; ``nearest`` has similar names.
    """
    text = name.strip()
    if not text or any(ord(letter) < 32 for letter in text):
        shown = public_address(text) if "://" in text else text
        raise UsageError(f"`{shown}` is not a model's name", name="model", value=shown)
    if text == "demo":
        return ModelRef(kind="demo", name="demo", alias="demo")
    if "://" in text:
        return _from_url(text, endpoint)
    local = _local(text)
    if local is not None:
        return local
    if text.split("/", 1)[0] in HUB_HOSTS and "/" in text:
        return _from_url(f"https://{text}", endpoint)
    return _from_catalogue(text, load_catalogue()) or _from_repo_name(text)


def nearest_names(name: str) -> tuple[str, ...]:
    """Up to three catalogue names that look like ``name``."""
    catalogue = load_catalogue()
    by_lower = {known.lower(): known for known in catalogue.names()}
    by_lower |= {model.repo.lower(): model.name for model in catalogue.models}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return tuple(dict.fromkeys(by_lower[match] for match in close))


def hub_ref(repo: str, revision: str = "", file: str = "", alias: str = "") -> ModelRef:
    """A reference to a hub repository.

    Raises:
        UsageError: ``repo``, ``revision`` or ``file`` cannot exist on a hub.
    """
    _check_repo(repo)
    if revision:
        _check_revision(revision)
    if file and not is_safe_path(file):
        raise UsageError(f"`{file}` is not a file of a repository", name="model", value=file)
    name = repo + (f"/{file}" if file else "") + (f"@{revision}" if revision else "")
    return ModelRef(kind="hub", name=name, alias=alias, repo=repo, revision=revision, file=file)


def is_safe_path(path: str) -> bool:
    """Whether a file name from a hub stays inside the folder it is put in, on every operating system."""
    if not path or len(path) > 1024 or "\\" in path or any(ord(letter) < 32 for letter in path):
        return False
    parts = path.split("/")
    return all(part not in {"", ".", ".."} and len(part.encode(errors="replace")) <= 255 for part in parts) and not (
        re.match(r"[A-Za-z]:", path)
    )


def _local(text: str) -> ModelRef | None:
    looks_local = text in {".", "..", "~"} or text.startswith(("./", "../", "/", "~/", ".\\", "..\\"))
    looks_local = looks_local or re.match(r"[A-Za-z]:[\\/]", text) is not None
    try:
        path = Path(text).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        if looks_local:
            raise UsageError(f"`{text}` is not a usable path: {error}", name="model", value=text) from error
        return None
    if exists and (looks_local or text.lower().endswith(MODEL_SUFFIXES)):
        return ModelRef(kind="local", name=str(path.resolve()), path=path.resolve())
    if looks_local:
        _raise_no_path(text, path)
    return None


def _raise_no_path(text: str, path: Path) -> NoReturn:
    try:
        beside = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        beside = []
    nearest = difflib.get_close_matches(path.name, beside, n=3)
    raise ModelNotFound(f"there is no file or folder `{text}`", what="path", name=text, nearest=nearest)


def public_address(text: str) -> str:
    """An address as it may be shown and stored: without user, password, query and fragment."""
    scheme, mark, rest = re.split(r"[?#]", text, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _from_url(text: str, endpoint: str) -> ModelRef:
    shown = public_address(text)
    try:
        url = urlsplit(text)
        host, origin, _ = (url.hostname or "").lower(), (url.scheme.lower(), url.netloc.lower()), url.port
    except ValueError:
        message = "the address has no valid host and port, expected `https://host/path/file.gguf`"
        raise UsageError(message, name="model") from None  # the cause repeats what may be a password
    if "@" in url.netloc:
        message = f"the address of `{shown}` carries a user name or a password, expected one without"
        raise UsageError(message, name="model", value=shown)
    base = urlsplit(endpoint)
    own_hub = origin == (base.scheme.lower(), base.netloc.lower())
    if url.scheme.lower() not in {"http", "https"} or not host:
        raise UsageError(f"`{shown}` is not an https address", name="model", value=shown)
    if url.scheme.lower() == "http" and not own_hub and host not in LOOPBACK_HOSTS:
        raise UsageError(f"`{shown}` begins with http://, expected https://", name="model", value=shown)
    if own_hub or host in HUB_HOSTS:
        return _from_hub_address(shown, unquote(url.path.removeprefix(base.path) if own_hub else url.path))
    return _from_foreign_address(shown, url)


def _from_hub_address(text: str, path: str) -> ModelRef:
    """``/org/name``, then perhaps ``/tree|blob|resolve/revision[/file]``; an old repository has no ``org``."""
    parts = [part for part in path.split("/") if part]
    if not parts or parts[0] in _NOT_MODELS:
        raise UsageError(f"`{text}` is not the address of a model", name="model", value=text)
    verbs = {"tree", "blob", "resolve", "raw", "commit"}
    at = next((index for index, part in enumerate(parts) if part in verbs and index in {1, 2}), None)
    if at is None:
        return _repo_and_file(parts, "")
    if len(parts) == at + 1:
        raise UsageError(f"`{text}` names no revision after `{parts[at]}`", name="model", value=text)
    revision, rest = _split_revision(parts[at + 1 :])
    file = "" if parts[at] in {"tree", "commit"} else "/".join(rest)
    return hub_ref("/".join(parts[:at]), revision, file if file.lower().endswith(MODEL_SUFFIXES) else "")


def _split_revision(parts: list[str]) -> tuple[str, list[str]]:
    """``refs/pr/1`` and ``refs/convert/parquet`` are revisions of three parts, any other has one in an address."""
    length = 3 if parts[0] == "refs" and len(parts) >= 3 else 1
    return "/".join(parts[:length]), parts[length:]


def _from_foreign_address(shown: str, url: SplitResult) -> ModelRef:
    file = unquote(url.path.rsplit("/", 1)[-1])
    if not _may_be_a_model(file) or not is_safe_path(file):
        raise UsageError(f"`{shown}` is not the address of a .gguf file or an archive", name="model", value=shown)
    path, query = (quote(part, safe="/%!$&'()*+,;=:@~?[]") for part in (url.path, url.query))
    clean = url._replace(scheme=url.scheme.lower(), netloc=url.netloc.lower(), path=path, query=query, fragment="")
    name = clean._replace(query="").geturl()
    if url.query:
        mark = hashlib.sha256(url.query.encode(errors="replace")).hexdigest()[:16]
        return ModelRef(kind="url", name=f"{name}#query-{mark}", url=clean.geturl(), file=file)
    if _QUERY_MARK.fullmatch(url.fragment):
        return ModelRef(kind="url", name=f"{name}#{url.fragment}", file=file)
    return ModelRef(kind="url", name=name, url=name, file=file)


def _may_be_a_model(file: str) -> bool:
    """A GGUF file, one in gzip or zstd, or an archive, whose members nobody knows yet."""
    from fastslm.formats.archive import is_archive

    name = file.lower()
    alone = name.endswith((".gz", ".zst")) and not name.endswith((".tar.gz", ".tar.zst"))
    return name.endswith((".gguf", ".gguf.gz", ".gguf.zst")) or (is_archive(name) and not alone)


def _from_catalogue(text: str, catalogue: Catalogue) -> ModelRef | None:
    short, _, revision = text.partition("@")
    entry = catalogue.find(short)
    if entry is not None:
        return hub_ref(entry.repo, revision, alias=entry.name)
    if ":" in short:
        message = f"the catalogue has no model `{short}`"
        raise ModelNotFound(message, what="model", name=short, nearest=nearest_names(short))
    return None


def _from_repo_name(text: str) -> ModelRef:
    path, at, revision = text.partition("@")
    if at and not revision:
        raise UsageError(f"`{text}` names no revision after `@`", name="model", value=text)
    return _repo_and_file(path.split("/"), revision)


def _repo_and_file(parts: list[str], revision: str) -> ModelRef:
    file = "/".join(parts[2:])
    if file and not file.lower().endswith(MODEL_SUFFIXES):
        text = "/".join(parts)
        raise UsageError(f"`{text}` is not a model's name, expected `org/name`", name="model", value=text)
    return hub_ref("/".join(parts[:2]), revision, file)


def _check_repo(repo: str) -> None:
    parts = repo.split("/")
    fine = len(repo) <= 96 and len(parts) <= 2 and "--" not in repo and ".." not in repo
    if not fine or repo.endswith(".git") or not all(_NAME.fullmatch(part) for part in parts):
        message = f"`{repo}` is not a model's name, expected `org/name`, a short name, a path or an address"
        raise UsageError(message, name="model", value=repo, allowed=nearest_names(repo))


def _check_revision(revision: str) -> None:
    if not _REVISION.fullmatch(revision) or not is_safe_path(revision) or ".." in revision:
        raise UsageError(f"`{revision}` is not a branch, tag or commit", name="revision", value=revision)
