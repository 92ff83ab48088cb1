"""What this machine gives us: cores, the share of them we may use, memory. Floor 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """Cores and memory as the operating system reports them.

    Attributes:
        logical_cores: processors that this process may be scheduled on.
        physical_cores: the same without hyper-threads, at least 1.
        cpu_quota: processors' worth of time that a container grants, or None without a limit.
        memory_bytes, available_bytes: installed and free for new work, within the limit of a container.
    """

    logical_cores: int
    physical_cores: int
    cpu_quota: float | None
    memory_bytes: int
    available_bytes: int

    @property
    def threads(self) -> int:
        """Threads for generation: one for each physical core, within the quota.

        Generation is bound by memory bandwidth; a second thread on one core only adds contention.
        """
        allowed = self.physical_cores if self.cpu_quota is None else min(self.physical_cores, int(self.cpu_quota))
        return max(1, allowed)


def inspect() -> Machine:
    """Ask the operating system."""
    import psutil

    logical = usable_cpus()
    physical = psutil.cpu_count(logical=False) or logical
    memory = psutil.virtual_memory()
    limit = memory_limit()
    return Machine(
        logical_cores=logical,
        physical_cores=max(1, min(physical, logical)),
        cpu_quota=cpu_quota(),
        memory_bytes=min(int(memory.total), limit or int(memory.total)),
        available_bytes=min(int(memory.available), limit or int(memory.available)),
    )


def usable_cpus() -> int:
    """Processors, hyper-threads included, that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def cpu_quota(root: Path = CGROUP) -> float | None:
    """Processors' worth of time of this control group (version 2, then version 1), None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        limit = int((root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        span = int((root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return limit / span if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def memory_limit(root: Path = CGROUP) -> int | None:
    """Bytes that a container may use (version 2, then version 1), None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int((root / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # not there, or `max`
            continue
        return limit if limit > 0 else None
    return None
