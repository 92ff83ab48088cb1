"""What this machine gives us: cores, the share of them we may use, memory. Floor 1.

Files of the system are read as a stranger's: what is missing, or is not what it should be, is as if it were not there.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
PROCESSORS = Path("/sys/devices/system/cpu")

SLOW = 0.8
"""A core below this share of the fastest one's speed is one that the others would wait for."""

POLITE_NICENESS = 10


@dataclass(frozen=True)
class Cores:
    """Processors that this process may be scheduled on, and how many of them are worth a thread.

    Attributes:
        logical: all of them.
        physical: the same without hyper-threads, at least 1.
        fast: physical ones without those that are built to be slow, at least 1.
        quota: processors' worth of time that a container grants, or None without a limit.
    """

    logical: int
    physical: int
    fast: int
    quota: float | None

    @property
    def threads(self) -> int:
        """Threads for generation where nothing was measured."""
        return self.choices[0]

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of threads that may be the best for a model, the least first, all within the quota."""
        most = self.logical if self.quota is None else max(1, int(self.quota))
        return tuple(sorted({min(count, most) for count in (self.fast, self.physical, self.logical)}))


@dataclass(frozen=True)
class Machine:
    """Cores and memory as the operating system reports them.

    Attributes:
        cores: processors.
        memory_bytes, available_bytes: installed and free for new work, within the limit of a container.
    """

    cores: Cores
    memory_bytes: int
    available_bytes: int


def inspect() -> Machine:
    """Ask the operating system."""
    import psutil

    memory = psutil.virtual_memory()
    limit = memory_limit()
    return Machine(
        cores=inspect_cores(),
        memory_bytes=min(int(memory.total), limit or int(memory.total)),
        available_bytes=min(int(memory.available), limit or int(memory.available)),
    )


def inspect_cores(root: Path = PROCESSORS) -> Cores:
    """The processors alone, which costs a millisecond where the system has files that tell."""
    allowed = _allowed()
    siblings = {cpu: _text(root / f"cpu{cpu}" / "topology" / "thread_siblings_list") or "" for cpu in allowed}
    if all(siblings.values()):
        speeds = _speeds(root, allowed)
        fast = {siblings[cpu] for cpu in allowed if speeds[cpu] >= SLOW * max(speeds.values())}
        physical, fast_ones = len(set(siblings.values())), len(fast)
    else:
        import psutil

        physical = fast_ones = max(1, min(psutil.cpu_count(logical=False) or len(allowed), len(allowed)))
    return Cores(len(allowed), physical, fast_ones, cpu_quota())


def _allowed() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _speeds(root: Path, allowed: list[int]) -> dict[int, int]:
    """Relative speed of each processor; all equal where the system does not tell it of every one."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {cpu: _whole(_text(root / f"cpu{cpu}" / name)) for cpu in allowed}
        known = {cpu: speed for cpu, speed in speeds.items() if speed is not None and speed > 0}
        if len(known) == len(allowed):
            return known
    return dict.fromkeys(allowed, 1)


def usable_cpus() -> int:
    """Processors, hyper-threads included, that this process may run on."""
    return len(_allowed())


def be_polite() -> None:
    """Let other programs go first: lower the priority of this process, of which its threads inherit it."""
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, max(own, POLITE_NICENESS))


def own_memory() -> tuple[int, int | None]:
    """Bytes of memory of this process, and those that are no pages of files (None where the system does not tell)."""
    import psutil

    resident = int(psutil.Process().memory_info().rss)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        [line] = [line for line in lines if line.startswith("RssAnon:")]
        return resident, int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return resident, None


def is_busy() -> bool:
    """Whether other work leaves less than half a core idle: the load of the last minute, where the system tells it."""
    try:
        load, _, _ = os.getloadavg()
    except (AttributeError, OSError):  # Windows, or a container without /proc
        return False
    return load > usable_cpus() - 0.5


def cpu_quota(root: Path = CGROUP, own: Path = OWN_GROUPS) -> float | None:
    """Processors' worth of time that the control groups of this process grant, None without a limit.

    Groups of version 2 and 1; the least of all that this process is in counts.
    """
    quotas = [_quota(folder) for folder in _groups(root, own)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(root: Path, own: Path) -> list[Path]:
    """Folders of the groups that limit processor time: those at the root, where a container sees its own, and ours."""
    folders = [root, root / "cpu"]
    for line in (_text(own) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part]
        if ".." in parts or (controllers and "cpu" not in controllers.split(",")):
            continue
        top = root / "cpu" if controllers else root
        folders += [top.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _quota(folder: Path) -> float | None:
    words = (_text(folder / "cpu.max") or "").split()
    if len(words) != 2:
        words = [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    limit, period = (_whole(word) for word in words)
    return limit / period if limit is not None and limit > 0 and period is not None and period > 0 else None


def memory_limit(root: Path = CGROUP) -> int | None:
    """Bytes that a container may use (version 2, then version 1), None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _whole(_text(root / name))
        if limit is not None:
            return limit if limit > 0 else None
    return None


def _text(path: Path) -> str | None:
    """The beginning of a small file of the system, None when there is none."""
    try:
        with path.open(encoding="ascii") as file:
            return file.read(1 << 16).strip()
    except (OSError, ValueError):
        return None


def _whole(text: str | None) -> int | None:
    """A number of up to 18 digits, None for all else, such as `max`."""
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,18}", text) else None
