"""How long a batch will take, learned from the batches that were computed; and how wrong that is.

    seconds = a * tokens + b * (sum of squared text lengths) + c

Attention makes the second term, a batch's fixed cost the third. The coefficients are fitted by
least squares over all batches so far, older ones weighing less and less, and are never negative.
Pure: no clock, no thread; whoever measures tells.
"""

from __future__ import annotations

from collections.abc import Sequence

# One batch less of memory for each batch: about a hundred count.
_FORGETTING = 0.99
# How firmly a coefficient that the batches say nothing about stays where it was at first.
_FIRMNESS = 0.02
# Errors count by this many tokens and the batch's own, so that small batches are learned as well as
# large ones.
_SCALE_TOKENS = 64
_TYPICAL_LENGTH = 512
# A process that was paused says nothing about the engine: no batch counts as more than this many
# times what was expected. What is really slower is learned all the same, in steps.
_SURPRISE = 8.0
_SURPRISE_SECONDS = 0.05
# The share of answers that may come later than the bound that is kept of their delay.
_LATER = 0.02
# Before anything was measured.
_SECONDS_PER_TOKEN = 1e-3

_Three = tuple[float, float, float]


class BatchSeconds:
    """Predicts the seconds of a batch. Not safe to use from several threads without a lock.

    `measured` holds (tokens, squares, seconds) of batches that were timed before, at warm-up.
    """

    def __init__(self, measured: Sequence[tuple[int, int, float]] = ()) -> None:
        paces = [seconds / tokens for tokens, _, seconds in measured if tokens]
        self._first_pace = min(paces) if paces else _SECONDS_PER_TOKEN
        # Of the weighted rows (x, y, z) and target t: xx, xy, xz, yy, yz, zz, and xt, yt, zt.
        self._sums = (0.0,) * 9
        self.coefficients = (self._first_pace, 0.0, 0.0)
        for tokens, squares, seconds in measured:
            self.observe(tokens, squares, seconds)

    def seconds(self, tokens: float, squares: float, batches: float = 1.0) -> float:
        """Expected seconds of so much work in so many batches."""
        a, b, c = self.coefficients
        return a * tokens + b * squares + c * batches

    def observe(self, tokens: int, squares: int, seconds: float) -> None:
        """Learns from one batch that was computed."""
        most = _SURPRISE * self.seconds(tokens, squares) + _SURPRISE_SECONDS
        weight = 1.0 / (tokens + _SCALE_TOKENS)
        x, y, z = tokens * weight, squares / _TYPICAL_LENGTH * weight, _SCALE_TOKENS * weight
        t, keep = min(seconds, most) * weight, _FORGETTING
        xx, xy, xz, yy, yz, zz, xt, yt, zt = self._sums
        self._sums = (
            keep * xx + x * x,
            keep * xy + x * y,
            keep * xz + x * z,
            keep * yy + y * y,
            keep * yz + y * z,
            keep * zz + z * z,
            keep * xt + x * t,
            keep * yt + y * t,
            keep * zt + z * t,
        )
        a, b, c = self._fitted()
        self.coefficients = (a, b / _TYPICAL_LENGTH, c * _SCALE_TOKENS)

    def _fitted(self) -> _Three:
        """What leaves the least squared error of all that is not negative."""
        xx, xy, xz, yy, yz, zz, xt, yt, zt = self._sums
        xx, yy, zz = xx + _FIRMNESS, yy + _FIRMNESS, zz + _FIRMNESS
        xt += _FIRMNESS * self._first_pace
        # Cramer's rule; the determinant cannot vanish, thanks to the firmness.
        xx_, xy_, xz_ = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        determinant = xx * xx_ + xy * xy_ + xz * xz_
        a = (xx_ * xt + xy_ * yt + xz_ * zt) / determinant
        b = (xy_ * xt + (xx * zz - xz * xz) * yt + (xy * xz - xx * yz) * zt) / determinant
        c = (xz_ * xt + (xy * xz - xx * yz) * yt + (xx * yy - xy * xy) * zt) / determinant
        if a >= 0 and b >= 0 and c >= 0:
            return a, b, c
        products = ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))
        return _least_of_subsets(products, (xt, yt, zt))


def _least_of_subsets(products: tuple[_Three, _Three, _Three], targets: _Three) -> _Three:
    """The best with one or two coefficients at 0: one of these is the best with none negative."""
    best, least = (0.0, 0.0, 0.0), 0.0
    for i in range(3):
        for j in range(i, 3):
            found = [0.0, 0.0, 0.0]
            if i == j:
                found[i] = targets[i] / products[i][i]
            else:
                determinant = products[i][i] * products[j][j] - products[i][j] ** 2
                found[i] = targets[i] * products[j][j] - targets[j] * products[i][j]
                found[j] = targets[j] * products[i][i] - targets[i] * products[i][j]
                found[i], found[j] = found[i] / determinant, found[j] / determinant
            # The error of such a solution, up to what all have in common.
            error = -sum(x * t for x, t in zip(found, targets, strict=True))
            if min(found) >= 0 and error < least:
                best, least = (found[0], found[1], found[2]), error
    return best


class LeastTokens:
    """The fewest tokens that so many characters have lately become: a bound, not a guess.

    Two generations of requests are remembered, so that one odd text is forgotten after a while.
    Until the first generation is complete nothing is promised.
    """

    def __init__(self, generation: int = 128) -> None:
        self._generation = generation
        self._before = 0.0
        self._now = float("inf")
        self._seen = 0

    def observe(self, characters: int, tokens: int) -> None:
        """Learns from a request that was tokenised."""
        if characters <= 0:
            return
        self._now = min(self._now, tokens / characters)
        self._seen += 1
        if self._seen >= self._generation:
            self._before, self._now, self._seen = self._now, float("inf"), 0

    def tokens(self, characters: int) -> float:
        """No request lately became fewer tokens than this, had it had so many characters."""
        return min(self._before, self._now) * characters


class Delay:
    """How much later than predicted answers come, all but one in fifty of them.

    Predictions know the queue. They do not know what comes after it (decoding, writing, an event
    loop that others keep busy) nor a machine that lately has been slower. Each answer moves the
    bound by a step: up where it came later, down, by as much less, where it did not.
    """

    def __init__(self, *, step_s: float = 0.002, most_s: float = 1.0) -> None:
        self.seconds = 0.0
        self._step_s = step_s
        self._most_s = most_s

    def observe(self, late_s: float) -> None:
        """An answer came so much later than predicted; earlier where negative."""
        share = 1.0 - _LATER if late_s > self.seconds else -_LATER
        self.seconds = min(max(0.0, self.seconds + share * self._step_s), self._most_s)
