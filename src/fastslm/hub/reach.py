"""Whether the hub answers, and how fast."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from fastslm.config import Settings
from fastslm.errors import ConnectionLost

TIMEOUT_S = 5.0


def reachable(settings: Settings) -> float:
    """Seconds until the hub answered one small request; any answer counts, a refusal too.

    Raises:
        ConnectionLost: there was none within five seconds.
    """
    url = f"{settings.endpoint}/api/models?limit=1"
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):  # noqa: S310  # Settings admits http and https only
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionLost(f"`{settings.endpoint}` does not answer: {reason}", url=url) from error
    return time.monotonic() - began
