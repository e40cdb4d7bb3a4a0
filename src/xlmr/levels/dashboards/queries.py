"""PromQL over what is chosen at the top of a page. Pure."""

from __future__ import annotations

from xlmr.levels.series import HARMED, OURS, Fleet

_CHOSEN = ('region=~"$region"', 'model=~"$model"')
_RATE = "$__rate_interval"


class Queries:
    """Writes queries for one page."""

    def __init__(self, job: str) -> None:
        self.of = Fleet(job)
        self._job = f'job="{job}"'

    def version(self, name: str, *matchers: str, **values: str) -> str:
        """Series that are counted by model and version."""
        return self.of(name, *_CHOSEN, *matchers, **values)

    def server(self, name: str, *matchers: str, **values: str) -> str:
        """Series that are a server's as a whole."""
        return self.of(name, _CHOSEN[0], *matchers, **values)

    def rate(self, selector: str, by: str = "", over: str = _RATE) -> str:
        """A second's growth, summed."""
        grouped = f"sum by ({by})" if by else "sum"
        return f"{grouped} (rate({selector}[{over}]))"

    def slowest(self, share: float) -> str:
        """The seconds within which this share of requests is answered, by version."""
        seconds = self.version("xlmr_request_seconds_bucket")
        return f"histogram_quantile({share:g}, {self.rate(seconds, 'model, version, le')})"

    def quantile(self, share: float, name: str, by: str) -> str:
        """Of a histogram that a server keeps as a whole."""
        return f"histogram_quantile({share:g}, {self.rate(self.server(name), f'{by}, le')})"

    def succeeded(self, by: str = "", over: str = _RATE) -> str:
        """The share of requests that did not fail by our fault."""
        asked = self.rate(self.version("xlmr_requests_total", OURS), by, over)
        harmed = self.rate(self.version("xlmr_requests_total", HARMED), by, over)
        return f"1 - ({harmed} or {asked} * 0) / ({asked} > 0)"

    def ratio(self, part: str, whole: str, by: str, over: str = "1h") -> str:
        """The growth of one selector, as a share of another's."""
        return f"{self.rate(part, by, over)} / ({self.rate(whole, by, over)} > 0)"

    def burn_rate(self, window: str) -> str:
        """As the rules work it out."""
        return f"xlmr:burn_rate:{window}{{{','.join((self._job, *_CHOSEN))}}}"

    def variables(self) -> dict[str, str]:
        """What can be chosen at the top of a page, and where its values are found."""
        return {"region": self.of("up"), "model": self.of("xlmr_model_state")}
