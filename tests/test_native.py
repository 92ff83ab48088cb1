"""The compiled extension against a real loopback server: bytes, resume, cancel, typed errors, and its stub."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fastslm
from fastslm import _native, errors
from support.range_server import Fault, RangeServer, serving

MIB = 1 << 20


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def request(server: RangeServer, path: str, folder: Path, *, data: bytes, **changes: Any) -> _native.FileRequest:
    values: dict[str, Any] = {
        "url": server.url(path) + "?signature=secret",
        "partial_path": str(folder / "file.partial"),
        "journal_path": str(folder / "file.journal"),
        "size_bytes": len(data),
        "hash_algorithm": "sha256",
        "expected_hash": hashlib.sha256(data).hexdigest(),
    }
    return _native.FileRequest(**(values | changes))


def options(**changes: Any) -> _native.DownloadOptions:
    values: dict[str, Any] = {"backoff_s": 0.01, "stall_timeout_s": 0.5, "max_attempts": 3}
    return _native.DownloadOptions(**(values | changes))


def finish(file: _native.FileRequest, **changes: Any) -> _native.Progress:
    download = _native.Download([file], options(**changes))
    assert download.wait(30)
    return download.progress()


def error_of(file: _native.FileRequest, **changes: Any) -> errors.FastSLMError:
    [progress] = finish(file, **changes).files
    assert progress.state == "failed"
    assert progress.error is not None
    assert "secret" not in str(progress.error)
    return progress.error


def test_a_file_arrives_by_several_connections_at_once(tmp_path: Path) -> None:
    data = content(24 * MIB + 5)
    with serving({"/f": data}) as server:
        progress = finish(request(server, "/f", tmp_path, data=data))
        [file] = progress.files
        assert (file.state, file.error) == ("verified", None)
        assert file.digest == hashlib.sha256(data).hexdigest()
        assert (file.size_bytes, file.done_bytes, file.resumed_bytes) == (len(data), len(data), 0)
        assert len([seen for seen in server.seen if "range" in seen.headers]) > 1
    assert (tmp_path / "file.partial").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["file.partial"]
    assert progress.finished
    assert progress.connections == 0
    assert len(data) <= progress.wire_bytes < 1.1 * len(data)


@pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB, MIB + 1])
def test_small_files_arrive_by_one_request_and_an_empty_one_by_none(tmp_path: Path, size: int) -> None:
    data = content(size)
    blob = hashlib.sha1(b"blob %d\0" % size + data).hexdigest()
    with serving({"/f": data}) as server:
        file = request(server, "/f", tmp_path, data=data, hash_algorithm="git-sha1", expected_hash=blob)
        assert finish(file).files[0].digest == blob
        wanted = {"bytes=0-", f"bytes=0-{size - 1}"}
        whole = [seen for seen in server.seen if seen.headers.get("range", "bytes=0-") in wanted]
        assert len(whole) == min(size, 1)  # on a busy machine another connection may take over what is late of it
    assert (tmp_path / "file.partial").read_bytes() == data


def test_a_file_of_unknown_size_and_hash_arrives_and_tells_its_sha256(tmp_path: Path) -> None:
    data = content(3 * MIB)
    with serving({"/f": data}) as server:
        file = request(server, "/f", tmp_path, data=data, size_bytes=-1, hash_algorithm="none", expected_hash="")
        [progress] = finish(file).files
    assert (progress.state, progress.size_bytes) == ("verified", len(data))
    assert progress.digest == hashlib.sha256(data).hexdigest()


def test_headers_of_the_request_are_sent(tmp_path: Path) -> None:
    data = content(10)
    with serving({"/f": data}) as server:
        finish(request(server, "/f", tmp_path, data=data, headers=["Authorization: Bearer x"]), user_agent="me/1")
        headers = server.seen[0].headers
    assert headers["authorization"] == "Bearer x"
    assert headers["user-agent"] == "me/1"
    assert headers["accept-encoding"] == "identity"


def test_a_redirect_to_another_origin_gets_the_file_but_not_the_token(tmp_path: Path) -> None:
    data = content(10)
    with serving({"/f": data}) as cdn, serving({}) as hub:
        hub.script("/f", Fault(status=302, headers={"Location": cdn.url("/f")}))
        file = request(hub, "/f", tmp_path, data=data, headers=["Authorization: Bearer x"])
        assert finish(file).files[0].state == "verified"
        assert "authorization" in hub.seen[0].headers
        assert "authorization" not in cdn.seen[0].headers


def test_a_proxy_is_used_as_given_and_the_environment_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content(10)
    with serving({"http://files.invalid/f": data, "/f": data}) as server:
        proxied = request(server, "/f", tmp_path, data=data, url="http://files.invalid/f")
        assert finish(proxied, proxy=server.url("")).files[0].state == "verified"
        assert server.seen[-1].path == "http://files.invalid/f"
        assert finish(request(server, "/f", tmp_path, data=data), proxy=server.url(""), no_proxy="127.0.0.1")
        assert server.seen[-1].path == "/f"
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert finish(request(server, "/f", tmp_path, data=data)).files[0].state == "verified"


CHILD = """
import sys
from fastslm import _native
url, folder, size, digest = sys.argv[1:]
file = _native.FileRequest(url=url, partial_path=f"{folder}/file.partial", journal_path=f"{folder}/file.journal",
                           size_bytes=int(size), hash_algorithm="sha256", expected_hash=digest)
_native.Download([file], _native.DownloadOptions()).wait(60)
"""


def test_a_killed_process_is_resumed_by_the_next_one(tmp_path: Path) -> None:
    data = content(48 * MIB)
    digest = hashlib.sha256(data).hexdigest()
    with serving({"/f": data}, rate_bytes_s=4 * MIB) as server:
        arguments = [server.url("/f"), str(tmp_path), str(len(data)), digest]
        places = str(tmp_path / "file.partial"), str(tmp_path / "file.journal")
        child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments])
        saved = 0
        try:
            deadline = time.monotonic() + 30
            while saved < len(data) // 2 and time.monotonic() < deadline:
                _, saved = _native.unfinished_bytes(*places) or (0, saved)
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            child.wait(10)
        server.rate_bytes_s = 0
        progress = finish(request(server, "/f", tmp_path, data=data))
        assert progress.files[0].state == "verified"
        assert progress.files[0].resumed_bytes >= saved >= len(data) // 2
        assert progress.files[0].resumed_bytes + progress.wire_bytes < 1.05 * len(data)
    assert (tmp_path / "file.partial").read_bytes() == data


@pytest.mark.parametrize(
    "fault",
    [Fault(stall_after=1000), Fault(status=503, headers={"Retry-After": "30"})],
    ids=["silent server", "waiting for a busy server"],
)
def test_cancel_takes_effect_within_a_second(tmp_path: Path, fault: Fault) -> None:
    data = content(8 * MIB)
    with serving({"/f": data}, always=fault) as server:
        download = _native.Download([request(server, "/f", tmp_path, data=data)], options(stall_timeout_s=30))
        assert not download.wait(0.2)
        start = time.monotonic()
        download.cancel()
        assert download.wait(5)
        assert time.monotonic() - start < 1
        assert download.progress().files[0].state == "cancelled"


def test_cancel_works_while_the_connection_is_being_made(tmp_path: Path) -> None:
    # A listener whose queue is full answers no new connection.
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        file = _native.FileRequest(
            url=f"http://127.0.0.1:{listener.getsockname()[1]}/f",
            partial_path=str(tmp_path / "p"),
            journal_path=str(tmp_path / "j"),
            size_bytes=9,
        )
        download = _native.Download([file], options(connect_timeout_s=30, max_attempts=100))
        assert not download.wait(0.2)
        start = time.monotonic()
        download.cancel()
        assert download.wait(5)
        assert time.monotonic() - start < 1
        assert download.progress().files[0].state == "cancelled"


def test_an_address_is_renewed_when_it_ends_and_a_mirror_helps(tmp_path: Path) -> None:
    data = content(3 * MIB)
    with serving({"/fresh": data}, always=Fault()) as server, serving({"/m": data[:-1] + b"x"}) as liar:
        server.script("/f", *[Fault(status=403)] * 20)
        mirrors = [(liar.url("/m"), ["X-Key: 1"])]
        file = request(server, "/f", tmp_path, data=data, renewable=True, mirrors=mirrors)
        download = _native.Download([file], options(connections=2, adaptive=False))
        deadline = time.monotonic() + 30
        while not download.wait(0.01) and time.monotonic() < deadline:
            if download.progress().files[0].link_wanted:
                download.renew(0, server.url("/fresh"), ["X-Key: 2"])
        [seen] = download.progress().files
        assert (seen.state, seen.error, seen.link_wanted) == ("verified", None, False)
        assert {found.headers["x-key"] for found in server.seen if found.path == "/fresh"} == {"2"}
        assert all(found.headers["x-key"] == "1" for found in liar.seen)
        assert all("sent wrong bytes" in reason for reason in seen.dropped_sources)
        with pytest.raises(errors.UsageError):
            download.renew(1, server.url("/fresh"))
        with pytest.raises(errors.UsageError):
            download.renew(0, server.url("/fresh"), ["A: b\r\nC: d"])
    assert (tmp_path / "file.partial").read_bytes() == data


def test_one_wrong_block_is_repaired_and_counted(tmp_path: Path) -> None:
    data = content(9 * MIB)
    with serving({"/f": data}) as server:
        server.script("/f", Fault(flip=True))
        progress = finish(request(server, "/f", tmp_path, data=data))
    [file] = progress.files
    assert (file.state, file.error) == ("verified", None)
    assert 0 < file.repaired_bytes < MIB
    assert 1 <= progress.level <= 16
    assert (tmp_path / "file.partial").read_bytes() == data


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=404), errors.ServerRefused),
        (Fault(status=400), errors.ServerRefused),
        (Fault(status=403), errors.LinkExpired),
        (Fault(status=410), errors.LinkExpired),
        (Fault(status=500), errors.ServerBusy),
        (Fault(status=429), errors.ServerBusy),
        (Fault(cut_after=0), errors.ConnectionLost),
        (Fault(stall_after=0), errors.ConnectionLost),
        (Fault(shift=-1), errors.RangeMismatch),
        (Fault(total=1), errors.RangeMismatch),
        (Fault(flip=True), errors.ChecksumMismatch),
        (Fault(headers={"Content-Encoding": "br"}), errors.FastSLMError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_lasting_fault_becomes_its_class(tmp_path: Path, fault: Fault, kind: type[Exception]) -> None:
    data = content(9 * MIB)
    with serving({"/f": data}, always=fault) as server:
        error = error_of(request(server, "/f", tmp_path, data=data))
    assert isinstance(error, kind)
    if isinstance(error, errors.NetworkError):
        assert error.url == server.url("/f")
        assert error.status in (fault.status, 0, 200, 206)


def test_facts_arrive_as_attributes(tmp_path: Path) -> None:
    data = content(100)
    with serving({"/f": data}) as server:
        server.always = Fault(status=429, headers={"Retry-After": "1000"})
        busy = error_of(request(server, "/f", tmp_path, data=data))
        assert isinstance(busy, errors.ServerBusy)
        assert (busy.status, busy.retry_after_s) == (429, 1000)
        server.always = Fault()
        wrong = error_of(request(server, "/f", tmp_path, data=data, expected_hash="0" * 64))
        assert isinstance(wrong, errors.ChecksumMismatch)
        assert (wrong.expected, wrong.found) == ("0" * 64, hashlib.sha256(data).hexdigest())
        assert list(tmp_path.iterdir()) == []
        short = error_of(request(server, "/f", tmp_path, data=data, size_bytes=101))
        assert isinstance(short, errors.SizeMismatch)
        assert (short.expected, short.found) == ("101", "100")
        lost = error_of(request(server, "/f", tmp_path, data=data, partial_path=str(tmp_path / "no" / "p")))
        assert isinstance(lost, errors.FileSystemError)
        assert lost.path == str(tmp_path / "no" / "p")
        assert lost.errno == 2


def test_a_full_disk_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    size = free.f_bavail * free.f_frsize + (1 << 44)
    with serving({}) as server:
        error = error_of(request(server, "/f", tmp_path, data=b"", size_bytes=size))
        assert server.seen == []
    assert list(tmp_path.iterdir()) == []
    assert isinstance(error, errors.DiskFull)
    assert error.needed == size
    assert 0 <= error.available < size


def test_waiting_leaves_the_interpreter_to_other_threads(tmp_path: Path) -> None:
    data = content(MIB)
    with serving({"/f": data}, always=Fault(stall_after=10)) as server:
        download = _native.Download([request(server, "/f", tmp_path, data=data)], options(stall_timeout_s=20))
        ticks: list[float] = []
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(0.01):
                ticks.append(time.monotonic())

        thread = threading.Thread(target=tick)
        thread.start()
        start = time.monotonic()
        assert not download.wait(0.5)
        stop.set()
        thread.join(5)
        assert 0.4 < time.monotonic() - start < 2
        assert len(ticks) > 10


def test_wrong_arguments_are_usage_errors(tmp_path: Path) -> None:
    with serving({}) as server:
        for changes in ({"hash_algorithm": "md5"}, {"size_bytes": -2}):
            with pytest.raises(errors.UsageError):
                request(server, "/f", tmp_path, data=b"", **changes)
        with pytest.raises(errors.UsageError):
            _native.Download([], options(connections=0))
        without_hash = request(server, "/f", tmp_path, data=b"", expected_hash="", mirrors=[(server.url("/g"), [])])
        with pytest.raises(errors.UsageError):
            _native.Download([without_hash], options())
        with pytest.raises(errors.UsageError):
            _native.hash_file(str(tmp_path / "f"), "none")  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError):
        _native.read_bandwidth(1, 1, 1.0)


def test_files_are_hashed_and_copied(tmp_path: Path) -> None:
    data = content(3 * MIB + 1)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(data)
    assert _native.hash_file(str(source), "sha256") == hashlib.sha256(data).hexdigest()
    assert _native.copy_file(str(source), str(target)) in ("reflink", "copy")
    assert target.read_bytes() == data
    with pytest.raises(errors.FileSystemError) as caught:
        _native.copy_file(str(source), str(target))
    assert caught.value.path == str(target)
    with pytest.raises(errors.FileSystemError):
        _native.hash_file(str(tmp_path / "none"), "sha256")


def test_the_processor_is_described() -> None:
    info = _native.cpu_info()
    assert set(info) == {"features", "threads", "vendor"}
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    if "flags" in flags:
        assert set(info["features"]) <= flags  # type: ignore[call-overload]
        assert ("avx2" in flags) == ("avx2" in info["features"])  # type: ignore[operator]
    assert _native.read_bandwidth(1 << 22, 1, 0.02) > 1e6


def test_every_error_code_has_a_class_of_our_tree() -> None:
    codes = _native.error_codes()
    assert len(codes) == len(set(codes)) > 5
    for code in codes:
        kind = _native.error_class(code)
        assert issubclass(kind, errors.FastSLMError)
        assert getattr(errors, kind.__name__) is kind
    assert issubclass(_native.error_class("connection_lost"), errors.RetryableNetworkError)
    with pytest.raises(errors.UsageError):
        _native.error_class("no such code")


def _public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("_") or name in ("__version__", "__init__")}


def _stub() -> ast.Module:
    return ast.parse(Path(inspect.getfile(errors)).with_name("_native.pyi").read_text(encoding="utf-8"))


ALIASES = {"HashAlgorithm", "FileState"}
"""Names that only exist for type checkers."""


def test_the_stub_names_what_the_module_has() -> None:
    functions = {node.name: node for node in _stub().body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: node for node in _stub().body if isinstance(node, ast.ClassDef)}
    constants = {ast.unparse(node.target) for node in _stub().body if isinstance(node, ast.AnnAssign)}
    assert {*functions, *classes, *constants} == _public(vars(_native))
    for name, node in classes.items():
        members = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        made_by_python = members | {"__init__"}  # every class has one; the stub shows it only where it may be called
        assert _public(vars(getattr(_native, name))) | {"__init__"} == made_by_python


def test_the_stub_gives_arguments_as_the_module_does() -> None:
    functions = [(node, getattr(_native, node.name)) for node in _stub().body if isinstance(node, ast.FunctionDef)]
    for node in _stub().body:
        if isinstance(node, ast.ClassDef):
            owner = getattr(_native, node.name)
            made = [item for item in node.body if isinstance(item, ast.FunctionDef) and not item.decorator_list]
            functions += [(item, getattr(owner, item.name)) for item in made]
    for node, function in functions:
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            assert f"{argument.arg}: " in (function.__doc__ or "")
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            if default is not None and ast.unparse(default) != "()":
                shown = rf"\b{argument.arg}: [^:]*= {re.escape(ast.unparse(default))}"
                assert re.search(shown, function.__doc__), argument.arg


def test_the_version_is_the_one_of_the_package() -> None:
    assert _native.__version__ == fastslm.__version__
