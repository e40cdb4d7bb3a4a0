from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.drift.parts import FIRST_HOUR, hour, reference, signals, sketch

from xlmr.drift.detectors import Watch
from xlmr.drift.label_free import Labelled
from xlmr.drift.report import Report, make_report, time_of
from xlmr.drift.signals import Signals

# A whole day.
MIDNIGHT = FIRST_HOUR


def spam_from(changed: int, hours: int, *, spam: float = 0.4) -> list[tuple[int, Signals]]:
    found = [hour(number, spam=spam if number >= changed else 0.2) for number in range(hours)]
    return [(each.hour, each.signals) for each in found]


def report(hours: list[tuple[int, Signals]], **more) -> Report:  # type: ignore[no-untyped-def]
    until = hours[-1][0] + 1 if hours else FIRST_HOUR
    held = more.pop("reference", reference())
    return make_report("router", "3", held, hours, since=FIRST_HOUR, until=until, **more)


def test_nothing_moved() -> None:
    found = report(spam_from(1 << 30, 72))
    assert found.tickets == ()
    assert not any(language.drifted or language.typical for language in found.languages)
    assert found.rows == 72 * 200


def test_what_moved_in_which_language_since_when_and_what_is_typical() -> None:
    found = report(spam_from(48, 72))
    first, second = found.languages
    assert (first.language, first.drifted, second.drifted) == ("de", True, False)
    assert first.since is not None
    assert abs(first.since - (FIRST_HOUR + 48)) <= 2
    assert [finding.signal for finding in first.moved] == ["label"]
    assert [(typical.signal, typical.bin) for typical in first.typical] == [("label", "label spam")]
    assert 0.2 == first.typical[0].was < first.typical[0].now < 0.3
    assert second.moved == second.typical == ()
    (ticket,) = found.tickets
    assert (ticket.kind, ticket.language, ticket.since) == ("within", "de", first.since)
    label = next(shift for shift in found.mix if shift.signal == "label")
    assert label.within > 0.02 > label.mix
    assert [day.rows for day in first.days] == [2400, 2400, 2400]
    assert first.days[0].accuracy == pytest.approx(0.85, abs=0.01)


def test_alarms_of_the_period_tell_what_tickets_do_not() -> None:
    hours = spam_from(24, 28)
    watch = Watch(reference())
    alarms = [alarm for number, counts in hours for alarm in watch.step(number, counts)]
    assert alarms
    month = spam_from(1 << 30, 30 * 24)
    found = report(month, alarms=alarms)
    assert found.tickets == ()
    assert found.languages[0].drifted
    assert found.languages[0].since == alarms[0].since
    assert found.to_json()["alarms"][0]["noticed"] == time_of(alarms[0].window + 1)


def test_a_change_of_the_mix_accuses_no_language() -> None:
    def days() -> Iterator[tuple[int, Signals]]:
        for number in range(96):
            rows = 50 if number < 48 else 20
            counts = signals(de=sketch(20, 80), sw=sketch(rows // 5, rows - rows // 5))
            yield FIRST_HOUR + number, counts

    found = report(list(days()), reference=reference(mix={"de": 20000, "sw": 10000}))
    assert found.tickets
    assert {each.kind for each in found.tickets} == {"mix"}
    assert {each.since for each in found.tickets} == {FIRST_HOUR + 48}
    assert not any(language.drifted for language in found.languages)
    assert found.languages[1].was == pytest.approx(1 / 3)
    assert found.languages[1].now < 0.3


def test_what_many_languages_share_is_never_accused() -> None:
    base = reference()
    held = type(base)(base.task, base.source, base.labels, {"und": base.languages["de"]}, base.mix)
    found = report([(FIRST_HOUR, signals(und=sketch(500, 500)))], reference=held)
    assert [(each.kind, each.language) for each in found.tickets] == [("mix", "und")]
    assert not found.languages[0].drifted


def test_what_it_likely_cost() -> None:
    lower = [(FIRST_HOUR, signals(de=sketch(400, 1600, confidence=0.81)))]
    lower.append((FIRST_HOUR + 1, signals(tr=sketch(2, 8))))
    found = report(lower, labelled={"de": Labelled(100, 70)})
    by_name = {each.language: each.accuracies for each in found.languages}
    assert by_name["de"].release is not None
    assert by_name["de"].release.share == 0.85
    assert by_name["de"].lost == pytest.approx(2000 * 0.04, rel=0.35)
    assert by_name["de"].labelled is not None
    assert by_name["de"].labelled.share == 0.7
    assert (by_name["tr"].release, by_name["tr"].lost) == (None, None)


RIGHT = {"release", "estimated", "labels_only", "labelled", "lost"}


@pytest.mark.parametrize("hours", [[], spam_from(10, 30)])
def test_it_becomes_json(hours: list[tuple[int, Signals]]) -> None:
    told = json.loads(json.dumps(report(hours).to_json(), allow_nan=False))
    assert (told["format"], told["model"], told["since"]) == (1, "router", time_of(FIRST_HOUR))
    for language in told["languages"]:
        assert set(language["accuracy"]) == RIGHT


def test_hours_have_times() -> None:
    assert time_of(0) == "1970-01-01T00:00Z"
    assert time_of(FIRST_HOUR) == "2024-10-04T00:00Z"
