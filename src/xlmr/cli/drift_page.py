"""A drift report as one page of HTML with pictures: no network, no script, no text of anybody."""

from __future__ import annotations

from html import escape

from xlmr.drift.label_free import Accuracy
from xlmr.drift.report import Language, Report, time_of
from xlmr.evaluation.page import section, table, whole_page
from xlmr.evaluation.pictures import bars, length_curve

_MOST_DAYS = 14
_NONE = "–"


def render(report: Report) -> str:
    """The page."""
    sections = [
        _summary(report),
        _moved(report),
        *(_language(each) for each in report.languages if each.drifted),
        _accuracies(report),
        _mix(report),
        _alarms(report),
        _closer(report),
    ]
    return whole_page(f"{report.model}@{report.version}", "drift", sections)


def _summary(report: Report) -> str:
    drifted = [each for each in report.languages if each.drifted]
    lost = [each.accuracies.lost for each in drifted if each.accuracies.lost is not None]
    return table(
        (),
        [
            ("Period", f"{time_of(report.since)} to {time_of(report.until)}"),
            ("Answers", f"{report.rows:,} in {len(report.languages)} languages"),
            ("Held against", f"{report.source}, {report.reference[:12]}"),
            ("Moved", ", ".join(each.language for each in drifted) or "no language"),
            ("Wrong that would have been right", f"about {max(0, round(sum(lost))):,}"),
            ("Alarms", f"{len(report.alarms):,}"),
        ],
    )


def _moved(report: Report) -> str:
    rows = [
        (
            told.language,
            told.kind,
            told.finding.event,
            f"{told.finding.was:.1%}",
            f"{told.finding.now:.1%}",
            time_of(told.since),
        )
        for told in report.tickets
    ]
    heads = ("language", "kind", "what", "then", "now", "since")
    said = "Of these, at most a tenth are wrong in expectation."
    content = f"<p>{said}</p>{table(heads, rows)}" if rows else "<p>Nothing.</p>"
    return section("What moved over the whole period", content)


def _language(each: Language) -> str:
    title = f"{each.language}, since {time_of(each.since or 0)}"
    rows = [(typical.bin, f"{typical.was:.1%}", f"{typical.now:.1%}") for typical in each.typical]
    content = table(("more frequent", "then", "now"), rows) if rows else ""
    days = [day for day in each.days if day.accuracy is not None][-_MOST_DAYS:]
    points = [(time_of(day.first)[5:10], day.accuracy or 0.0, day.rows) for day in days]
    if len(points) > 1:
        label = f"Right answers in {each.language} by day, estimated"
        content += length_curve(points, metric="right, estimated", label=label)
    return section(title, content)


def _accuracies(report: Report) -> str:
    found = [
        (each.language, each.accuracies.estimated, each.accuracies)
        for each in report.languages
        if each.accuracies.estimated is not None
    ]
    picture = bars(
        [(name, now.share, now.low, now.high) for name, now, _ in found if now is not None],
        marks={name: of.release.share for name, _, of in found if of.release is not None},
        label="Right answers by language, estimated; dashed: at release",
    )
    rows = [
        (
            name,
            f"{of.release.share:.3f}" if of.release else _NONE,
            _with_interval(now),
            _with_interval(of.labels_only),
            _with_interval(of.labelled),
        )
        for name, now, of in found
    ]
    heads = ("language", "at release", "estimated", "if only labels shifted", "labelled")
    said = (
        "Estimated from the model's own confidences; the dashed line is how it was at release."
        " Where labels are said in other numbers, another estimate supposes that nothing else"
        " changed; the first one's interval holds both."
    )
    return section("How right answers are", f"<p>{said}</p>{picture}{table(heads, rows)}")


def _with_interval(found: Accuracy | None) -> str:
    return _NONE if found is None else f"{found.share:.3f} ({found.low:.3f} to {found.high:.3f})"


def _mix(report: Report) -> str:
    rows = [
        (
            shift.signal.replace("_", " "),
            f"{shift.total:.1%}",
            f"{shift.mix:.1%}",
            f"{shift.within:.1%}",
            max(shift.by_language, key=lambda name: shift.by_language[name], default=_NONE),
        )
        for shift in report.mix
    ]
    heads = ("signal", "moved", "by other languages", "within languages", "most within")
    return section("Other languages, or other texts in the same ones", table(heads, rows))


def _alarms(report: Report) -> str:
    rows = [
        (
            time_of(alarm.window + 1),
            alarm.kind,
            alarm.language,
            alarm.finding.event,
            time_of(alarm.since),
            time_of(alarm.last + 1),
            f"{alarm.times:,}",
            "yes" if alarm.open_at(report.until - 1) else "no",
        )
        for alarm in report.alarms
    ]
    if not rows:
        return ""
    heads = ("noticed", "kind", "language", "what", "since", "last", "times", "open")
    return section("Alarms", table(heads, rows))


def _closer(report: Report) -> str:
    rows = [
        (
            language,
            "yes" if seen["found"] else "no",
            f"{cluster['was']:.1%}",
            f"{cluster['now']:.1%}",
            ", ".join(cluster["typical"]),
        )
        for language, seen in report.closer["languages"].items()
        for cluster in seen["clusters"]
    ]
    said = report.closer["why_not"]
    content = f"<p>Not looked: {escape(said)}.</p>" if said else ""
    if rows:
        heads = ("language", "told apart", "then", "now", "typical predictions")
        content += table(heads, rows)
    return section("A closer look: kinds of texts that became more frequent", content)
