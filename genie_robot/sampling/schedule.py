"""How many tokens to reveal at each MaskGIT step (Chang 2022, arXiv 2202.04200, section 3.3)."""

from __future__ import annotations

import math

from genie_robot.errors import ConfigError


def cosine_counts(num_tokens: int, steps: int) -> list[int]:
    """Tokens revealed in each of `steps` steps, few at first; sums to `num_tokens`, at least one a step."""
    if not 1 <= steps <= num_tokens:
        raise ConfigError(f"maskgit_steps: got {steps}, wanted 1 to {num_tokens} (the tokens of a frame)")
    hidden = [math.floor(num_tokens * math.cos(math.pi / 2 * step / steps)) for step in range(1, steps + 1)]
    counts, left = [], num_tokens
    for step, after in enumerate(hidden, start=1):
        # One at least now, and one at least for each step to come.
        reveal = min(max(left - after, 1), left - (steps - step))
        counts.append(reveal)
        left -= reveal
    counts[-1] += left
    return counts
