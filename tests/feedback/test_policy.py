from __future__ import annotations

from pathlib import Path

import pytest
from tests.feedback.parts import MIDNIGHT, record

from xlmr.errors import SettingsError
from xlmr.feedback.labels import Feedback
from xlmr.feedback.policy import Keeper, Policy, Retention, TextRule, read_policy
from xlmr.feedback.redaction.redactor import Redactor
from xlmr.feedback.store import Store
from xlmr.feedback.upkeep import Held, expire, held

DAY_US = 86_400_000_000


def policy_of(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return read_policy(path)


def test_a_whole_policy(tmp_path: Path) -> None:
    policy = policy_of(
        tmp_path,
        """
        [text]
        keep = "redacted"
        share = 0.25
        [text.languages.de]
        keep = "nothing"
        [text.languages.sw]
        share = 1
        [redaction]
        kinds = ["EMAIL"]
        pseudonyms = true
        [retention]
        class = "short"
        [retention.classes.short]
        days = 7
        [retention.classes.long]
        days = 900
        text_days = 90
        """,
    )
    assert policy.rule("fr") == TextRule("redacted", 0.25)
    assert policy.rule("de").keep == "nothing"
    assert policy.rule("sw") == TextRule("redacted", 1.0)
    assert policy.kinds == ("EMAIL",)
    assert policy.pseudonyms
    assert policy.retention == "short"
    assert policy.classes == {"short": Retention(7, 7), "long": Retention(900, 90)}
    assert not policy.keeps_text("p1", "de")
    kept = sum(policy.keeps_text(f"p{n}", "fr") for n in range(4000))
    assert 850 <= kept <= 1150


def test_without_a_file_no_text_is_kept(tmp_path: Path) -> None:
    assert policy_of(tmp_path, "") == Policy()
    keeper = Keeper(Policy(), Redactor())
    assert keeper(record(1, text="Ruf mich an")).text == ""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("text = 3", "text: expected a table"),
        ("[texts]", "texts: unknown; expected one of text"),
        ("[text]\nkeep = 'plain'", "text.keep: 'plain' is none of nothing, redacted"),
        ("[text]\nshare = 2", "text.share: expected a number, 0 to 1"),
        ("[text]\nshare = true", "text.share"),
        ("[text.languages]\nde = 'x'", "text.languages.de: expected a table"),
        ("[text.languages.de]\nkeeps = 'x'", "text.languages.de.keeps: unknown"),
        ("[redaction]\nkinds = ['SHOE']", "redaction.kinds: 'SHOE'"),
        ("[redaction]\nkinds = 'EMAIL'", "redaction.kinds"),
        ("[redaction]\npseudonyms = 'no'", "redaction.pseudonyms: expected true or false"),
        ("[retention]\nclass = 'x'", r"retention.class: 'x' has no table"),
        ("[retention.classes.standard]\ndays = -1", "retention.classes.standard.days"),
        (
            "[retention.classes.standard]\ndays = 2\ntext_days = 3",
            "text_days: a text cannot outlive",
        ),
        ("[text", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(SettingsError, match=place):
        policy_of(tmp_path, text)
    with pytest.raises(SettingsError, match="No such file"):
        read_policy(tmp_path / "none.toml")


def test_what_is_kept_is_redacted() -> None:
    keeper = Keeper(Policy(text=TextRule("redacted"), retention="standard"), Redactor())
    kept = keeper(record(1, text="Ruf mich an: 0171 2345678, a@b.de", retention="other"))
    assert kept.text == "Ruf mich an: <PHONE>, <EMAIL>"
    assert kept.retention == "standard"
    unsure = keeper(record(2, language="und", text="Bitte rufen Sie mich an unter 0171 2345678."))
    assert "<PHONE>" in unsure.text


def test_what_has_outlived_its_class_goes(database: str) -> None:
    now = MIDNIGHT * 1_000_000 + 100 * DAY_US
    store = Store(database, clock=lambda: now - 95 * DAY_US)

    def aged(number: int, days: float, kind: str):
        at = (now - days * DAY_US) / 1e6
        return record(number, at=at, retention=kind, text="redacted")

    store.add([aged(1, 5, "short"), aged(2, 20, "short"), aged(3, 20, "standard")])
    store.add([aged(4, 50, "standard"), aged(5, 50, "unheard of"), aged(6, 95, "standard")])
    said = [Feedback(prediction=p, label="x", who="u") for p in ("p000002", "p000003", "never")]
    store.add_feedback(said)
    policy = Policy(classes={"standard": Retention(90, 30), "short": Retention(10, 10)})
    gone = expire(store, policy, now)
    assert (gone.records, gone.feedback, gone.texts) == (2, 2, 2)
    assert {r.id: r.text for r in store.records()} == {
        "p000001": "redacted",
        "p000003": "redacted",
        "p000004": "",
        "p000005": "",
    }
    again = expire(store, policy, now)
    assert (again.records, again.feedback, again.texts) == (0, 0, 0)
    store.close()


def test_what_a_store_holds(database: str) -> None:
    store = Store(database)
    assert list(held(store)) == []
    store.add([record(1), record(2, text="x"), record(3, language="fr"), record(4)])
    store.add_feedback(
        [
            Feedback(prediction="p000001", label="refund", who="u"),
            Feedback(prediction="p000001", label="refund", who="v"),
            Feedback(prediction="p000002", label="other", who="u"),
        ]
    )
    base = {"model": "router", "version": "3"}
    assert list(held(store)) == [
        Held(**base, language="de", records=3, texts=1, answered=2, corrected=1),
        Held(**base, language="fr", records=1, texts=0, answered=0, corrected=0),
    ]
    store.close()
