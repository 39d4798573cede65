"""How long to wait: for the next poll, and to leave a server in trouble alone."""

import random

JITTER = 0.1
"""A poll comes up to this share early or late, so that devices started together drift apart."""

FIRST_BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 600.0


def poll_wait_s(next_poll_s: float, chance: random.Random) -> float:
    """Choose the wait before the next poll, in seconds: what the server asked for, within the jitter."""
    return next_poll_s * chance.uniform(1 - JITTER, 1 + JITTER)


def backoff_wait_s(failures: int, retry_after: float | None, chance: random.Random) -> float:
    """Choose the wait after so many `failures` in a row, in seconds.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): anything from nothing to a bound that
    doubles, so that a thousand devices do not come back at once. Never sooner than the server asked for.
    """
    bound = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 30))
    asked = retry_after or 0.0
    return asked + chance.uniform(0.0, bound)
