"""``python -m bench download|mirror [--case NAME] [--peer NAME] [--repeat N] [--scale X] [--output FILE]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import download, mirror


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", choices=["download", "mirror"])
    parser.add_argument("--case", action="append", choices=list(download.CASES), help="of download; all by default")
    parser.add_argument("--peer", action="append", help="repeatable; all by default")
    parser.add_argument("--repeat", type=int, default=3, help="how often each peer runs")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the files, as a share of the usual one")
    parser.add_argument("--output", type=Path, help="file to add JSON lines to, instead of stdout")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.what == "mirror":
        mirror.main(given.repeat, given.scale, given.peer or (), given.output)
    else:
        download.main(given.case or [], download.Wishes(given.repeat, given.scale, given.peer or ()), given.output)
