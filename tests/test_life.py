"""Downloads day and night: whatever happens to them, in the end the bytes are right and nothing is left behind.

``--life-pulls 200`` makes it a long life.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import pytest

from fastslm.hub import transfer
from fastslm.upkeep import garbage
from support.hub_server import FakeHub
from support.life import Life, hashes, held, hurried, wrong_blobs


@pytest.mark.timeout(1800)
def test_a_life_of_faults_and_kills_ends_with_the_right_bytes_and_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """No wrong byte is ever published; at the end no partial file, thread, descriptor or lock remains."""
    monkeypatch.setattr(transfer, "_options", hurried)
    with FakeHub() as hub:
        Life(hub, tmp_path / "before", seed=20).pull_in_peace()
    before = held()
    home = tmp_path / "life"
    with FakeHub() as hub:
        life = Life(hub, home, seed=21)
        for _ in range(pytestconfig.getoption("life_pulls")):
            life.pull()
            assert wrong_blobs(home / "cache") == [], life.lived
        snapshot = life.pull_in_peace()
        assert {name: (snapshot / name).read_bytes() for name in life.files} == life.files
    needed = {wanted for data in life.files.values() for wanted in hashes(data)}
    assert [path for path in unfinished(home) if path.stem in needed] == []
    settings = life.settings(4)
    assert garbage.remove(garbage.collect(settings, with_partials=True), settings, lambda _: None) == ()
    assert unfinished(home) == []
    assert [path for path in home.rglob("*.lock") if is_locked(path)] == []
    assert grown(before) == {}
    print(dict(life.lived))


def unfinished(home: Path) -> list[Path]:
    """What interrupted downloads left; of a commit that nobody wants any more it stays until it is collected."""
    return [path for path in home.rglob("*") if path.suffix in {".partial", ".journal", ".tmp"}]


def is_locked(path: Path) -> bool:
    """Whether anybody holds the lock file."""
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def grown(before: dict[str, int]) -> dict[str, int]:
    """What this process holds more of than before, once threads that were about to end have ended."""
    more: dict[str, int] = {}
    for _ in range(100):
        more = {kind: count for kind, count in held().items() if count > before.get(kind, 0)}
        if not more:
            break
        time.sleep(0.1)
    return more
