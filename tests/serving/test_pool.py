from __future__ import annotations

import pytest

from xlmr.errors import InputError, ModelNotFoundError, SettingsError, TaskError
from xlmr.serving.pool import open_pool
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics


@pytest.fixture
def pool_of(models, tmp_path):
    pools = []

    def make(*places: str):
        settings = Settings(runtime="reference", cache_dir=tmp_path)
        pools.append(open_pool(places, settings, Metrics()))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_models_are_named_by_directory_or_by_wish(models, pool_of):
    pool = pool_of(f"{models}/router/", f"topics={models}/classify")
    assert list(pool.models) == ["router", "topics"]
    assert pool.models["topics"].ref.name == "topics"


def test_one_encoder_is_loaded_once(models, pool_of):
    pool = pool_of(f"{models}/router", f"{models}/sentences", f"{models}/classify")
    router, sentences, other = pool.models.values()
    assert router.batcher is sentences.batcher
    assert router.predictor.runtime is sentences.predictor.runtime
    assert other.batcher is not router.batcher
    assert router.ref.digest != sentences.ref.digest


def test_routes_lead_to_the_named_model_or_to_the_only_one(models, pool_of):
    pool = pool_of(f"{models}/router", f"{models}/sentences")
    assert pool.route(None, "classify").ref.name == "router"
    assert pool.route("sentences", "embed").ref.name == "sentences"
    with pytest.raises(InputError, match="router, sentences") as several:
        pool.route(None, "embed")
    assert several.value.path == "$.model"
    with pytest.raises(ModelNotFoundError, match="router, sentences"):
        pool.route("none", "embed")
    with pytest.raises(TaskError, match="cannot classify"):
        pool.route("sentences", "classify")
    with pytest.raises(TaskError, match="no loaded model can tag"):
        pool.route(None, "tag")


def test_two_models_of_one_name_are_refused(models, pool_of):
    with pytest.raises(SettingsError, match="same name"):
        pool_of(f"a={models}/router", f"a={models}/sentences")


def test_no_such_directory(models, pool_of):
    with pytest.raises(ModelNotFoundError):
        pool_of(f"{models}/nothing")


def test_a_batch_always_holds_the_longest_text(models, tmp_path):
    settings = Settings(runtime="reference", cache_dir=tmp_path, batch_tokens=8)
    pool = open_pool([f"{models}/sentences"], settings, Metrics())
    served = pool.models["sentences"]
    prepared = served.predictor.prepare("embed", ["hello " * 600])
    future = served.batcher.submit(prepared.encodings, rows=prepared.rows)
    assert len(future.result(10)[0]) == 512
    pool.close()
