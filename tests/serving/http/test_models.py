"""`GET /v1/models` over a real socket."""

from __future__ import annotations

import json
import shutil

import openai
import pytest

from xlmr.registry.rollout.assignment import Shadow, Single
from xlmr.registry.rollout.routing import Counting

COUNTING = Counting(
    salt="salt",
    epoch=1,
    objective_ms=None,
    low_confidence_below=0.5,
    unit="request",
    shadow_capacity=0.2,
)
CALIBRATION = {
    "format": 1,
    "temperatures": {"everywhere": 1.2, "by_language": {"de": 1.1, "sw": 2.0}, "spread": 0.2},
    "abstention": {
        "*": {
            "threshold": 0.4,
            "risk": 0.05,
            "confidence": 0.95,
            "bound": 0.04,
            "coverage": 0.9,
            "rows": 100,
        },
        "ar": {
            "threshold": 0.5,
            "risk": 0.05,
            "confidence": 0.95,
            "bound": 0.04,
            "coverage": 0.9,
            "rows": 100,
        },
    },
}


@pytest.fixture
def client(house):
    with openai.OpenAI(base_url=f"{house.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_lists_and_retrieves(house, client):
    assert [model.id for model in client.models.list()] == ["router", "sentences"]
    model = client.models.retrieve("router")
    assert (model.id, model.object, model.owned_by) == ("router", "model", "xlmr")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


def test_a_card_says_what_the_model_can_be_asked(house):
    served = house.plane.pool.models["router"]
    card = house.client.get("/v1/models/router").json()
    assert card["digest"] == served.ref.digest
    assert card["version"] == served.ref.version
    assert card["tasks"] == ["classify", "embed"]
    assert card["max_tokens"] == 512
    assert card["dimensions"] == 32
    assert card["labels"] == ["refund", "delivery", "other"]
    assert card["state"] == "ready"
    assert card["aliases"] == ["live"]
    assert card["tokenizer"] == served.predictor.bundle.tokenizer.fingerprint
    assert "calibration" not in card


def test_a_version_or_an_alias_leads_to_the_same_card(house):
    card = house.client.get("/v1/models/router").json()
    assert house.client.get(f"/v1/models/router@{card['version']}").json() == card
    assert house.client.get("/v1/models/router@live").json() == card
    assert house.client.get("/v1/models/router@other").status_code == 404


def test_a_card_says_what_the_scores_were_calibrated_for(models, house_of):
    shutil.copytree(models / "router", models / "calibrated")
    (models / "calibrated" / "calibration.json").write_text(json.dumps(CALIBRATION))
    with house_of("calibrated") as house:
        card = house.client.get("/v1/models/calibrated").json()
        assert card["calibration"] == {
            "temperature": True,
            "languages": ["ar", "de", "sw"],
            "thresholds": None,
            "abstention": {"risk": 0.05, "confidence": 0.95},
        }
        [item] = house.classify(input="hello", languages=["sw"]).json()["items"]
        assert item["calibrated"] is True
        assert item["abstained"] in (True, False)
        assert item["language"]["code"] == "sw"
    shutil.rmtree(models / "calibrated")


def test_who_operates_sees_where_requests_go(house_of):
    with house_of("router") as house:
        version = house.client.get("/v1/models/router").json()["version"]
        assert "route" not in house.client.get("/v1/models/router").json()
        house.plane.routes.set("router", Shadow(version, "2", 1000, "salt"), COUNTING)
        [card] = house.client.get("/v1/models").json()["data"]
        assert card["route"] == {"answers": 1.0, "shadows": 0.0, "rollout": "salt", "stage": 1}
        assert card["signed"] is False
    with house_of("router", anonymous_roles="predict") as house:
        house.plane.routes.set("router", Single(version))
        [card] = house.client.get("/v1/models").json()["data"]
        assert "route" not in card
