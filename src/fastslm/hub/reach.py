"""Whether the hub answers, and how fast."""

from __future__ import annotations

import time
import urllib.error
from urllib.parse import urlsplit

from fastslm.config import Settings
from fastslm.errors import ConnectionLost
from fastslm.hub.address import opener

TIMEOUT_S = 5.0


def reachable(settings: Settings) -> float:
    """Seconds until the hub answered one small request; any answer counts, a refusal too.

    Raises:
        ConnectionLost: there was none within five seconds.
    """
    url = f"{settings.endpoint}/api/models?limit=1"
    began = time.monotonic()
    try:
        with opener(settings, urlsplit(url).netloc).open(url, timeout=TIMEOUT_S):
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionLost(f"`{settings.endpoint}` does not answer: {reason}", url=url) from error
    return time.monotonic() - began
