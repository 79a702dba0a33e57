"""What is left of a running job; light, so that a command can ask too."""

from __future__ import annotations

# After so many steps, a job's own pace counts as much as that of its like.
TRUSTED_STEPS = 5


def remaining_s(estimate_s: float, elapsed_s: float, step: int | None, steps: int | None) -> float:
    """Estimate the remaining seconds of a running job: by the clock, and while it denoises by its own pace.

    Args:
        estimate_s: what its like took.
        elapsed_s: since it began.
        step, steps: done, and in all; ``None``, 0 or less before the first.
    """
    if step is None or steps is None or not 0 < step < steps:
        return max(0.0, estimate_s - elapsed_s)
    by_its_like = estimate_s * (1 - step / steps)
    by_its_own = elapsed_s / step * (steps - step)
    return (step * by_its_own + TRUSTED_STEPS * by_its_like) / (step + TRUSTED_STEPS)
