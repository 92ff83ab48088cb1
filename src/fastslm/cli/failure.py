"""One table from error class to exit code and hint."""

from __future__ import annotations

from typing import NamedTuple

from fastslm import errors


class Outcome(NamedTuple):
    """How the command line ends after an error of one class."""

    exit_code: int
    hint: str = ""


OUTCOMES: dict[type[errors.FastSLMError], Outcome] = {
    errors.FastSLMError: Outcome(1),
    errors.UsageError: Outcome(2),
    errors.NotFoundError: Outcome(3),
    errors.ModelNotFound: Outcome(3, "`fastslm list` shows the models on this machine"),
    errors.RevisionNotFound: Outcome(3, "a revision is a branch, a tag or a commit"),
    errors.DoesNotFit: Outcome(4),
    errors.DiskFull: Outcome(4, "`HF_HUB_CACHE` and `FASTSLM_HOME` may point to another disk"),
    errors.ContextTooLong: Outcome(4, "shorten the prompt, or start afresh with `/clear` in a chat"),
    errors.NetworkError: Outcome(5),
    errors.RetryableNetworkError: Outcome(5, "run the same command again: it goes on where it stopped"),
    errors.RangeMismatch: Outcome(
        5, "the server, or a proxy on the way to it, answers with other bytes than asked for"
    ),
    errors.OfflineMode: Outcome(5, "unset `HF_HUB_OFFLINE` to use the network"),
    errors.IntegrityError: Outcome(6),
    errors.ChecksumMismatch: Outcome(6, "nothing damaged was kept; run the same command to fetch it again"),
    errors.AccessDenied: Outcome(7, "accept the terms on the model's page and put a token in `HF_TOKEN`"),
    errors.UnsupportedModel: Outcome(1),
    errors.MissingExtra: Outcome(1, "`pip install fastslm[export]`"),
    errors.StoreError: Outcome(1, "`fastslm doctor` checks the folders"),
    errors.FileSystemError: Outcome(1, "`fastslm doctor` checks the folders"),
    errors.Cancelled: Outcome(130, "run the same command again: it goes on where it stopped"),
}
"""The most specific row counts."""

INTERRUPTED = Outcome(130)


def outcome(error: errors.FastSLMError) -> Outcome:
    """The row of an error's class or of its nearest base class; a name or an extra makes the better hint."""
    row = next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)
    if isinstance(error, errors.MissingExtra):
        return Outcome(row.exit_code, f"pip install 'fastslm[{error.extra}]'")
    nearest = error.nearest if isinstance(error, errors.NotFoundError) else ()
    if nearest:
        return Outcome(row.exit_code, "did you mean " + " or ".join(f"`{name}`" for name in nearest))
    return row
