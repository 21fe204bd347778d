"""How much the stress tests do: all of it, or the share that `DPR_LANCE_STRESS_SHARE` names, such as 0.05."""

import os

SHARE = float(os.environ.get("DPR_LANCE_STRESS_SHARE", "1"))


def size(whole: int) -> int:
    """Return how many of these repetitions to do, at least one."""
    return max(1, round(SHARE * whole))
