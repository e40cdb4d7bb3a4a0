"""What is served: whole and signed models, and unsigned ones only where that is meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.serving.follow.parts import Place, routers

from xlmr.errors import DigestMismatchError, RegistryError, SettingsError, SignatureError, XlmrError
from xlmr.model.bundle import open_bundle
from xlmr.registry.manifest import MANIFEST_FILE, SIGNATURE_FILE
from xlmr.registry.signature import read_trusted
from xlmr.serving.pool import Pool
from xlmr.serving.trust import Checked, Trust, open_trust
from xlmr.serving.versions import Order
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a model as it was trained, and the same as it was pulled."""
    root = tmp_path_factory.mktemp("trust")
    [model] = routers(root, 1)
    place = Place(root / "place")
    place.push(model, live=True)
    registry = place.registry()
    registry.pull("router", root / "pulled")
    registry.catalogue.close()
    return root


@pytest.fixture
def pulled(pushed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pushed / "pulled", tmp_path / "pulled"))


def keys(pushed: Path, name: str = "ours") -> Trust:
    return Trust(read_trusted(str(pushed / "place" / f"{name}.pem")))


def test_a_signed_model_is_what_it_was(pushed, pulled):
    answers = open_bundle(pushed / "model-1").digest
    assert keys(pushed).check(pulled) == Checked(answers, signed=True)
    # Without keys nobody can say who signed it, and its files are held against its manifest.
    assert Trust().check(pulled) == Checked(answers, signed=False)


def test_a_plain_directory_needs_no_signature_unless_keys_are_trusted(pushed):
    plain = pushed / "model-1"
    assert Trust().check(plain) == Checked()
    with pytest.raises(SignatureError, match=r"(?s)not signed.*--allow-unsigned") as refused:
        keys(pushed).check(plain)
    assert "xlmr registry push" in str(refused.value)
    assert Trust(keys(pushed).keys, allow_unsigned=True).check(plain) == Checked()


def alter(model: Path) -> None:
    path = model / "config.json"
    path.write_text(path.read_text() + " ")


def swap_tokenizer(model: Path) -> None:
    path = model / "tokenizer.json"
    told = json.loads(path.read_text())
    vocabulary = told["model"]["vocab"]
    vocabulary[10], vocabulary[11] = vocabulary[11], vocabulary[10]
    path.write_text(json.dumps(told))


def add(model: Path) -> None:
    (model / "calibration.json").write_text("{}")


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (alter, "config.json was altered"),
        (swap_tokenizer, "tokenizer.json is another tokenizer"),
        (add, "calibration.json was added"),
        (lambda model: (model / "xlmr_head.safetensors").unlink(), "xlmr_head.safetensors is miss"),
    ],
)
def test_what_was_tampered_with_is_named_with_keys_and_without(pushed, pulled, tamper, named):
    tamper(pulled)
    unsigned = Trust(keys(pushed).keys, allow_unsigned=True)
    for trust in (Trust(), keys(pushed), unsigned):
        with pytest.raises((SignatureError, DigestMismatchError), match=named):
            trust.check(pulled)


def test_another_key_is_refused_and_named(pushed, pulled):
    with pytest.raises(SignatureError, match="which is not trusted"):
        keys(pushed, "theirs").check(pulled)
    (pulled / SIGNATURE_FILE).unlink()
    with pytest.raises(SignatureError, match="not signed"):
        keys(pushed).check(pulled)
    assert not Trust(keys(pushed).keys, allow_unsigned=True).check(pulled).signed


def test_a_version_of_a_registry_is_the_tree_it_should_be(pushed, pulled):
    tree = json.loads((pulled / MANIFEST_FILE).read_text())["digest"]
    assert keys(pushed).check(pulled, tree=tree).signed
    with pytest.raises(DigestMismatchError, match="holds tree"):
        keys(pushed).check(pulled, tree="0" * 64)
    (pulled / MANIFEST_FILE).unlink()
    for trust in (Trust(), keys(pushed)):
        with pytest.raises(RegistryError, match="no xlmr-manifest"):
            trust.check(pulled, tree=tree)


def test_settings_say_whom_to_trust(pushed):
    ours = str(pushed / "place" / "ours.pem")
    assert open_trust(Settings(trusted_keys=ours)) == keys(pushed)
    assert open_trust(Settings(allow_unsigned="yes")) == Trust(allow_unsigned=True)
    with pytest.raises(SettingsError, match="nowhere"):
        open_trust(Settings(trusted_keys="nowhere"))


def test_a_pool_refuses_it_before_it_reads_it_and_says_why(pushed, pulled, tmp_path):
    trusted = str(pushed / "place" / "ours.pem")
    settings = Settings(runtime="reference", cache_dir=tmp_path / "cache", trusted_keys=trusted)
    pool = Pool(settings, Metrics())
    try:
        served = pool.load(Order(directory=pulled, name="router", version="1"))
        assert (served.proof.signed, pool.state_of("router").signed) == (True, True)
        shutil.copytree(pulled, tmp_path / "other")
        swap_tokenizer(tmp_path / "other")
        for directory, version in ((tmp_path / "other", "2"), (pushed / "model-1", "3")):
            with pytest.raises(XlmrError):
                pool.load(Order(directory=directory, name="router", version=version))
        reasons = {state.version: state.reason for state in pool.states()}
        assert "another tokenizer" in reasons["2"]
        assert "not signed" in reasons["3"]
        assert pool.models["router"] is served
    finally:
        pool.close()


def test_prepared_weights_beside_released_files_are_not_used(pulled, tmp_path):
    # They stand in no manifest: whoever puts some there would decide what is answered.
    settings = Settings(precision="fp32", cache_dir=tmp_path / "cache")
    pool = Pool(settings, Metrics())
    try:
        pool.load(Order(directory=pulled, name="router"))
    finally:
        pool.close()
    assert not list(pulled.glob("xlmr-native-*"))
    assert list((tmp_path / "cache" / "prepared").rglob("xlmr-native-*"))
