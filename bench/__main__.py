"""``python -m bench NAME [--case NAME] [--peer NAME] [--repeat N] [--scale X]``, the names as in ``BENCHES``.

``python -m bench generate`` has options of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import convert, decompress, download, mirror, naive, overlap, quality, sampling

BENCHES = {
    "download": download,
    "decompress": decompress,
    "naive": naive,
    "mirror": mirror,
    "convert": convert,
    "overlap": overlap,
    "sampling": sampling,
    "quality": quality,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=list(BENCHES))
    names = [name for bench in BENCHES.values() for name in bench.CASES]
    parser.add_argument("--case", action="append", choices=names, help="repeatable; all by default")
    parser.add_argument("--peer", action="append", help="repeatable; all by default")
    parser.add_argument("--repeat", type=int, default=3, help="how often each peer runs")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the files, as a share of the usual one")
    parser.add_argument("--output", type=Path, help="file to add JSON lines to, instead of stdout")
    given = parser.parse_args()
    strange = [name for name in given.case or [] if name not in BENCHES[given.what].CASES]
    if strange:
        parser.error(f"`{given.what}` has no case `{strange[0]}`")
    return given


if __name__ == "__main__":
    if sys.argv[1:2] == ["generate"]:
        from bench.generate.main import main

        main(sys.argv[2:])
        sys.exit()
    given = _arguments()
    wishes = download.Wishes(given.repeat, given.scale, given.peer or ())
    BENCHES[given.what].main(given.case or [], wishes, given.output)
