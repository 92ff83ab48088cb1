"""A pull from beginning to end: what the official client finds afterwards, and what is left when things go wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastslm.config import Settings
from fastslm.errors import (
    Cancelled,
    ChecksumMismatch,
    ConnectionLost,
    DiskFull,
    FastSLMError,
    FileMissing,
    FileSystemError,
    LinkExpired,
    NetworkError,
    OfflineMode,
    RangeMismatch,
    ServerBusy,
    ServerRefused,
)
from fastslm.hub import ModelRef, Wishes, fetch_model, parse, plan
from fastslm.hub.client import library_generation
from fastslm.hub.layout import RepoLayout
from fastslm.progress import Progress
from support.hub_server import FakeHub, Fault
from support.official import assert_same_cache, run_official

REF = parse("org/tiny")
WEIGHTS = "model.safetensors"


def visible(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# after a good pull


def test_every_byte_arrives_for_one_head_each(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """Revision, listing, one HEAD and one download per file; the second pull asks for the revision only."""
    hub.add_repo("org/tiny", model_files)
    fetched = fetch_model(REF, hub_settings)
    assert visible(fetched.path) == model_files
    assert fetched.files == tuple(sorted(model_files))
    total = sum(map(len, model_files.values()))
    assert total <= fetched.wire_bytes <= 1.05 * total  # the end of a slow range is asked for twice
    assert len(hub.log("hub", "HEAD", "/org/tiny/resolve/")) == len(model_files)
    hub.clear()
    again = fetch_model(REF, hub_settings)
    assert (again.path, again.wire_bytes, again.from_cache) == (fetched.path, 0, False)
    assert len(hub.log()) == 1


def test_the_official_client_has_nothing_left_to_do(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """No request, no warning, no wrong hash, and the same when the network is off."""
    hub.add_repo("org/tiny", {**model_files, "chat_template.jinja": b"{{ x }}"})
    fetched = fetch_model(REF, hub_settings)
    hub.clear()
    script = f"""
        from huggingface_hub import snapshot_download, scan_cache_dir, try_to_load_from_cache, hf_hub_download
        scan = scan_cache_dir()
        result = [
            snapshot_download("org/tiny", revision={fetched.commit!r}),
            snapshot_download("org/tiny", local_files_only=True),
            [str(warning) for warning in scan.warnings],
            sorted(file.file_name for repo in scan.repos for rev in repo.revisions for file in rev.files),
            try_to_load_from_cache("org/tiny", "model.safetensors"),
            hf_hub_download("org/tiny", "config.json", revision={fetched.commit!r}),
        ]
    """
    folder = str(fetched.path)
    for offline in (False, True):
        found = run_official(script, endpoint=hub.endpoint, cache=hub_settings.hub_cache, offline=offline)
        assert found[:3] == [folder, folder, []]
        assert found[3] == sorted([*model_files, "chat_template.jinja"])
        assert found[4:] == [f"{folder}/model.safetensors", f"{folder}/config.json"]
    newer = library_generation() >= 1  # the older one asks for the revision even of a commit
    assert [request for request in hub.log() if newer or "/revision/" not in request.path] == []


def test_the_official_client_verifies_our_files(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """Its own checksum command (of the newer generation) agrees with every file."""
    hub.add_repo("org/tiny", model_files)
    fetch_model(REF, hub_settings)
    script = """
        from huggingface_hub import HfApi
        api = HfApi()
        found = api.verify_repo_checksums("org/tiny") if hasattr(api, "verify_repo_checksums") else None
        result = None if found is None else [found.checked_count, len(found.mismatches), len(found.missing_paths)]
    """
    assert run_official(script, endpoint=hub.endpoint, cache=hub_settings.hub_cache) in (None, [5, 0, 0])


def test_our_cache_is_the_official_one_byte_for_byte(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes], tmp_path: Path
) -> None:
    """Links, refs, listings, modes: nothing tells who downloaded, except an empty folder for partial files."""
    hub.add_repo("org/tiny", {**model_files, "empty.safetensors": b"", "sub dir/copy.json": b"{}"})
    fetch_model(REF, hub_settings, Wishes(include=("*",)))
    script = "from huggingface_hub import snapshot_download\nresult = snapshot_download('org/tiny')"
    run_official(script, endpoint=hub.endpoint, cache=tmp_path / "theirs")
    assert_same_cache(hub_settings.hub_cache, tmp_path / "theirs")


def test_what_the_official_client_has_is_not_fetched_again(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """A cache that was filled by somebody else is as good as ours."""
    hub.add_repo("org/tiny", model_files)
    script = "from huggingface_hub import snapshot_download\nresult = snapshot_download('org/tiny')"
    run_official(script, endpoint=hub.endpoint, cache=hub_settings.hub_cache)
    hub.clear()
    assert fetch_model(REF, hub_settings).wire_bytes == 0
    assert hub.log("", "HEAD") == []


def test_the_token_stays_with_the_hub(hub: FakeHub, with_token: Settings, model_files: dict[str, bytes]) -> None:
    """Every request to the hub carries it, none to the CDN does; private and gated repositories work with it."""
    for name, how in (("org/private", {"private": True}), ("org/gated", {"gated": True})):
        hub.add_repo(name, model_files, **how)
        assert visible(fetch_model(parse(name), with_token).path) == model_files
    assert {request.authorization for request in hub.log("cdn")} == {""}
    assert {request.authorization for request in hub.log("hub")} == {"Bearer hf_good"}


def test_a_renamed_repository_keeps_its_old_name_here(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """As the official client does it."""
    hub.add_repo("org/new", model_files)
    hub.renamed["org/tiny"] = "org/new"
    fetched = fetch_model(REF, hub_settings)
    assert "models--org--tiny" in str(fetched.path)
    assert visible(fetched.path) == model_files


def test_a_new_commit_fetches_only_what_changed(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """Blobs are shared between commits; the old commit stays reachable by its hash."""
    repo = hub.add_repo("org/tiny", model_files)
    first = fetch_model(REF, hub_settings)
    repo.commit({**model_files, "config.json": b'{"new": true}'})
    hub.clear()
    second = fetch_model(REF, hub_settings)
    assert second.wire_bytes == len(b'{"new": true}')
    assert (second.path / "config.json").read_bytes() == b'{"new": true}'
    assert fetch_model(parse(f"org/tiny@{first.commit}"), hub_settings).path == first.path


def test_without_links_a_pull_still_works(hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]) -> None:
    """HF_HUB_DISABLE_SYMLINKS: the snapshot holds the files themselves, once."""
    hub.add_repo("org/tiny", {**model_files, "chat_template.json": b"{}"})
    plain = dataclasses.replace(hub_settings, use_symlinks=False)
    fetched = fetch_model(REF, plain)
    assert visible(fetched.path) == {**model_files, "chat_template.json": b"{}"}
    assert not [path for path in plain.hub_cache.rglob("*") if path.is_symlink()]
    assert not list((plain.hub_cache / "models--org--tiny" / "blobs").iterdir())
    assert fetch_model(REF, plain).wire_bytes == 0


# interruptions


def test_a_killed_pull_goes_on_where_it_was(hub: FakeHub, hub_settings: Settings) -> None:
    """`kill -9` in the middle, then the same command: hardly a byte is fetched twice."""
    data = os.urandom(12 * 1024 * 1024)
    hub.add_repo("org/tiny", {"config.json": b"{}", WEIGHTS: data})
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.05))
    script = f"""
from pathlib import Path
from fastslm import hub
from fastslm.config import Settings
settings = Settings(home=Path({str(hub_settings.home)!r}), hub_cache=Path({str(hub_settings.hub_cache)!r}),
                    endpoint={hub.endpoint!r}, connections=4)
hub.fetch_model(hub.parse("org/tiny"), settings, progress=lambda p: print(p.done, flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    killer = threading.Timer(30, process.kill)
    killer.start()
    for line in process.stdout:
        if int(line) > len(data) // 2:
            break
    time.sleep(0.6)  # the journal is written twice a second
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    killer.cancel()
    hub.clear()
    fetched = fetch_model(REF, hub_settings)
    assert (fetched.path / WEIGHTS).read_bytes() == data
    assert fetched.resumed_bytes >= len(data) // 3
    assert fetched.resumed_bytes + fetched.wire_bytes <= 1.05 * len(data)


def test_ctrl_c_keeps_what_was_received(hub: FakeHub, hub_settings: Settings) -> None:
    """The pull ends within a second or so, and the next one goes on."""
    data = os.urandom(8 * 1024 * 1024)
    hub.add_repo("org/tiny", {"config.json": b"{}", WEIGHTS: data})
    fault = hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.1))

    def interrupt(progress: Progress) -> None:
        if progress.stage == "downloading" and progress.done > len(data) // 4:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled):
        fetch_model(REF, hub_settings, progress=interrupt)
    fault.times = 0
    fetched = fetch_model(REF, hub_settings)
    assert (fetched.path / WEIGHTS).read_bytes() == data
    assert fetched.resumed_bytes > 0


def test_two_pulls_at_once_share_the_work(hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]) -> None:
    """The second waits, says so, and finds the files; nothing is fetched twice."""
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.03))
    reports: list[Progress] = []
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch_model(REF, hub_settings, progress=reports.append)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [visible(fetched.path) == model_files for fetched in results] == [True, True]
    assert sorted(fetched.wire_bytes > 0 for fetched in results) == [False, True]
    assert any("waiting for another process" in report.detail for report in reports)


# things that go wrong


@pytest.mark.parametrize("kind", ["drop", "shift", "whole", "status"])
def test_a_fault_that_passes_is_survived(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes], kind: str
) -> None:
    """A cut connection, a wrong Content-Range, a server without ranges, one 503: the user notices nothing."""
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(Fault(kind, path=WEIGHTS, status=503, offset=1_000_000, times=1))
    assert visible(fetch_model(REF, hub_settings).path) == model_files


def test_an_expired_link_is_resolved_again(hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]) -> None:
    """Links live for an hour: a download that takes longer asks for a new one and keeps its bytes."""
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(Fault("status", path=WEIGHTS, status=403, times=1))
    assert visible(fetch_model(REF, hub_settings).path) == model_files
    assert len(hub.log("hub", "HEAD", f"/{WEIGHTS}")) == 2


def test_a_link_that_never_works_is_given_up(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """A CDN that refuses every address ends in an error, not in a loop."""
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(Fault("status", path=WEIGHTS, status=403))
    with pytest.raises(LinkExpired):
        fetch_model(REF, hub_settings)
    assert len(hub.log("hub", "HEAD", f"/{WEIGHTS}")) <= 5


def check_nothing_wrong_is_shown(settings: Settings, good: dict[str, bytes], bad: str) -> None:
    """The bad file is nowhere to be seen, the others are kept, no branch points to the incomplete commit."""
    layout = RepoLayout(settings.hub_cache, "org/tiny")
    seen = {path: data for folder in layout.folder.glob("snapshots/*") for path, data in visible(folder).items()}
    assert seen == {path: data for path, data in good.items() if path != bad}
    assert not layout.ref("").exists()


def test_a_flipped_byte_is_never_published(hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]) -> None:
    """The official client would accept it. The other files stay, and a later pull puts it right."""
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(Fault("flip", path=WEIGHTS, offset=2_000_000))
    with pytest.raises(ChecksumMismatch):
        fetch_model(REF, hub_settings)
    check_nothing_wrong_is_shown(hub_settings, model_files, WEIGHTS)
    hub.clear()
    later = fetch_model(REF, hub_settings)
    assert visible(later.path) == model_files
    assert later.wire_bytes <= 1.05 * len(model_files[WEIGHTS])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("status", path=WEIGHTS, status=404), FileMissing),
        (Fault("status", path=WEIGHTS, status=400), ServerRefused),
        (
            Fault("status", origin="hub", path=WEIGHTS, status=404, headers={"X-Error-Code": "EntryNotFound"}),
            FileMissing,
        ),
    ],
)
def test_a_refused_file_does_not_stop_the_others(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes], fault: Fault, error: type[FastSLMError]
) -> None:
    """Everything else is brought home before the error is told."""
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(fault)
    with pytest.raises(error):
        fetch_model(REF, hub_settings)
    check_nothing_wrong_is_shown(hub_settings, model_files, WEIGHTS)


def test_a_file_that_changes_its_hash_is_refused(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """The HEAD announces other bytes than the listing of the same commit did."""
    repo = hub.add_repo("org/tiny", model_files)
    fetch_model(REF, hub_settings, Wishes(include=("config.json",)))  # the listing is in the cache now
    changed = dataclasses.replace(repo.commits[repo.refs["main"]][WEIGHTS], data=b"other")
    repo.commits[repo.refs["main"]][WEIGHTS] = changed
    with pytest.raises(ChecksumMismatch, match="announces"):
        fetch_model(REF, hub_settings)


def test_nobody_there_and_nothing_here(hub_settings: Settings) -> None:
    """A network error that names the hub."""
    gone = dataclasses.replace(hub_settings, endpoint="http://127.0.0.1:9")
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9"):
        fetch_model(REF, gone)


def test_the_cache_serves_when_the_network_is_gone_or_off(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """A model that was pulled once always runs."""
    hub.add_repo("org/tiny", model_files)
    fetched = fetch_model(REF, hub_settings)
    hub.clear()
    off = fetch_model(REF, dataclasses.replace(hub_settings, offline=True))
    assert hub.log() == []
    hub.close_for_good()
    gone = fetch_model(REF, hub_settings)
    for found in (off, gone):
        assert (found.path, found.files, found.from_cache) == (fetched.path, fetched.files, True)
    with pytest.raises(OfflineMode, match="`org/other` is not complete on this machine"):
        fetch_model(parse("org/other"), dataclasses.replace(hub_settings, offline=True))
    with pytest.raises(NetworkError):
        fetch_model(ModelRef("hub", "org/tiny@dev", repo="org/tiny", revision="dev"), hub_settings)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("kind", "error"),
    [("shift", RangeMismatch), ("drop", ConnectionLost), ("status", ServerBusy)],  # "shift" needs more than one range
)
def test_a_fault_that_stays_is_told(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes], kind: str, error: type[FastSLMError]
) -> None:
    """A wrong Content-Range for every request is no file; nothing of it is shown, and the next pull succeeds."""
    model_files = {**model_files, WEIGHTS: os.urandom(10_000_000)}
    hub.add_repo("org/tiny", model_files)
    hub.add_fault(Fault(kind, path=WEIGHTS, status=503, headers={"Retry-After": "0"}))
    with pytest.raises(error):
        fetch_model(REF, hub_settings)
    check_nothing_wrong_is_shown(hub_settings, model_files, WEIGHTS)
    hub.clear()
    assert visible(fetch_model(REF, hub_settings).path) == model_files


def test_a_blob_that_somebody_else_completed(
    hub: FakeHub, hub_settings: Settings, model_files: dict[str, bytes]
) -> None:
    """Our own half of it is dropped."""
    hub.add_repo("org/tiny", model_files)
    fault = hub.add_fault(Fault("slow", path=WEIGHTS, delay_s=0.1))

    def interrupt(progress: Progress) -> None:
        if progress.stage == "downloading" and progress.done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(Cancelled):
        fetch_model(REF, hub_settings, progress=interrupt)
    fault.times = 0
    layout = RepoLayout(hub_settings.hub_cache, "org/tiny")
    assert list(layout.partials.iterdir())
    script = "from huggingface_hub import hf_hub_download\nresult = hf_hub_download('org/tiny', 'model.safetensors')"
    run_official(script, endpoint=hub.endpoint, cache=hub_settings.hub_cache)
    layout.pointer(fetch_model(REF, hub_settings).commit, WEIGHTS).unlink()
    assert visible(fetch_model(REF, hub_settings).path) == model_files
    assert not list(layout.partials.iterdir())


@pytest.fixture
def small_disk(hub_settings: Settings) -> Iterator[Path]:
    """A file system of its own as cache; only the super-user can make one."""
    disk = hub_settings.hub_cache
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this machine does not let us mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], timeout=10, check=True)


def test_a_full_disk(hub: FakeHub, hub_settings: Settings, small_disk: Path, model_files: dict[str, bytes]) -> None:
    """A clear refusal, before the first byte or when the disk fills up meanwhile, and what was there stays."""
    (small_disk / "other").write_bytes(bytes(3_000_000))
    hub.add_repo("org/tiny", model_files)
    with pytest.raises(DiskFull) as caught:
        fetch_model(REF, hub_settings)
    assert caught.value.needed > caught.value.available > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "require_space", lambda *_: None)
        with pytest.raises(DiskFull):
            fetch_model(REF, hub_settings)
    check_nothing_wrong_is_shown(hub_settings, model_files, WEIGHTS)


def test_a_read_only_cache(hub: FakeHub, hub_settings: Settings, small_disk: Path) -> None:
    """What is in it can be used, also without our notes; what is not gives one sentence with the path."""
    hub.add_repo("org/tiny", {"config.json": b"{}", WEIGHTS: b"w"})
    hub.add_repo("org/other", {"config.json": b"{}", WEIGHTS: b"w"})
    layout = RepoLayout(hub_settings.hub_cache, "org/tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "require_space", lambda *_: None)
        fetched = fetch_model(REF, hub_settings)
        layout.tree(fetched.commit).unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], timeout=10, check=True)
        assert fetch_model(REF, hub_settings).path == fetched.path
        with pytest.raises(FileSystemError, match="Read-only") as caught:
            fetch_model(parse("org/other"), hub_settings)
    assert caught.value.path.startswith(str(small_disk))
