"""What cannot work is refused with what is needed and what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastslm.errors import DiskFull, DoesNotFit
from fastslm.export.footprint import Footprint
from fastslm.plan.estimate import Estimate, Machine, Plan, Traffic
from fastslm.plan.memory import longest_context, memory_need
from fastslm.store.manifest import ModelKind

GB = 10**9
ROOMY = Machine(16 * GB, 12 * GB, 100 * GB, 100 * GB, same_disk=True, bandwidth=None)


def plan_on(machine: Machine, *, context: int = 4096, asked: bool = False, chosen: str = "fp32") -> Plan:
    """A model of 8 GB in fp32 and 1 GB in int4."""
    estimates = []
    for precision, size in (("fp32", 8 * GB), ("int4", 1 * GB)):
        print_ = Footprint(ModelKind("llama", precision, "native"), context, 16, size, size, size, 0, 0, 65536, 90000)
        longest = longest_context(print_, 0, machine.memory_bytes)
        estimates.append(Estimate(print_, 0, memory_need(print_, context, 0), longest, None))
    traffic = Traffic(total_bytes=3 * GB, cached_bytes=1 * GB)
    return Plan("m", "c", traffic, "llama", 1, context, asked, chosen, tuple(estimates), False, machine)


def test_what_fits_passes() -> None:
    """Nothing is raised, nothing else is offered."""
    plan = plan_on(ROOMY)
    plan.check()
    assert plan.alternative is None
    assert plan.disk_peak_bytes == 2 * GB + 8 * GB


def test_download_and_conversion_share_a_disk_or_not() -> None:
    """On one disk both must fit together, on two each on its own."""
    plan_on(replace(ROOMY, download_disk_bytes=3 * GB, models_disk_bytes=9 * GB, same_disk=False)).check()
    with pytest.raises(DiskFull) as one:
        plan_on(replace(ROOMY, download_disk_bytes=9 * GB, models_disk_bytes=9 * GB)).check()
    assert (one.value.needed, one.value.available) == (10 * GB, 9 * GB)
    with pytest.raises(DiskFull) as two:
        plan_on(replace(ROOMY, models_disk_bytes=7 * GB, same_disk=False)).check()
    assert (two.value.needed, two.value.available) == (8 * GB, 7 * GB)


def test_a_converted_model_needs_no_more_disk() -> None:
    """What is here is here."""
    replace(plan_on(replace(ROOMY, download_disk_bytes=3 * GB)), converted=True).check()


def test_memory_that_does_not_suffice_names_the_precision_that_fits() -> None:
    """Both numbers are facts of the error."""
    plan = plan_on(replace(ROOMY, memory_bytes=4 * GB))
    with pytest.raises(DoesNotFit, match="int4 fits") as found:
        plan.check()
    assert found.value.available == 4 * GB
    assert found.value.needed > 8 * GB
    assert plan.alternative is not None
    assert plan.alternative.precision == "int4"
    with pytest.raises(DoesNotFit, match="no precision fits"):
        plan_on(replace(ROOMY, memory_bytes=GB // 2)).check()


def test_a_long_context_counts_when_it_was_asked_for() -> None:
    """131,072 positions take 8.6 GB; a conversation need not fill them."""
    tight = replace(ROOMY, memory_bytes=9 * GB)
    plan_on(tight, context=131072).check()
    with pytest.raises(DoesNotFit, match="131072"):
        plan_on(tight, context=131072, asked=True).check()
