"""Fail if a kernel file holds instructions beyond its instruction set, or functions that the linker may merge.

A machine without AVX-512 has 16 vector registers and no masks: one EVEX instruction in the AVX2 file, or one inline
function compiled for AVX-512 and kept for all, ends in an illegal instruction there and nowhere else.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EVEX = re.compile(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b")
AMX = r"|%tmm|\b(ld|st)tilecfg\b|\btile"
FORBIDDEN = {
    "portable": re.compile(r"%[yz]mm|\bv[a-z]+ps\b" + AMX),
    "avx2": re.compile(EVEX.pattern + r"|vpdpbusd" + AMX),
    "avx_vnni": re.compile(EVEX.pattern + AMX),
    "avx512_vnni": re.compile(AMX[1:]),
    "avx512_amx": re.compile(r"\btdp(?!b[su][su]d\b)"),
}


def output_of(*command: str) -> list[str]:
    """Lines that a tool of binutils prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def main(build: str) -> None:
    """Check the objects below a CMake build folder; exit with 1 and the first bad lines."""
    objects = sorted(Path(build).rglob("fastslm_kernels.dir/kernels/*.o"))
    assert objects, f"no kernels below {build}"
    for path in objects:
        name = path.name.split(".")[0]
        merged = [line for line in output_of("nm", str(path)) if re.search(r" [WVu] ", line)]
        assert not merged, f"{name} has symbols that the linker may merge: {merged[:3]}"
        if name in FORBIDDEN:
            code = output_of("objdump", "-d", "--no-show-raw-insn", str(path))
            bad = [line for line in code if FORBIDDEN[name].search(line)]
            assert not bad, f"{name} has instructions of another set: {bad[:3]}"
    sys.stdout.write(f"{len(objects)} kernel files keep to their instruction sets\n")


if __name__ == "__main__":
    main(sys.argv[1])
