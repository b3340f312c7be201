"""Named places where a test can kill the process, to show that what is on disk survives it.

``RAGKIT_FAILPOINT=name`` kills the process with SIGKILL the first time it comes to the place ``name``,
``name:3`` the third time. Unset, as it always is outside tests, a failpoint does nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_visits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill this process, as ``kill -9`` does, where the environment variable ``RAGKIT_FAILPOINT`` names this place."""
    wanted = os.environ.get("RAGKIT_FAILPOINT")
    if wanted is None:
        return
    _visits[name] += 1
    place, _, visit = wanted.partition(":")
    if place == name and _visits[name] >= int(visit or 1):
        os.kill(os.getpid(), signal.SIGKILL)
