"""Versions in MLflow's own model registry, and back from there."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from tests.registry.parts import gate_report, open_at, small_models

from xlmr.cli.main import cli
from xlmr.errors import (
    DigestMismatchError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from xlmr.registry.exchange import Sent, exchange_at, export_version, import_version
from xlmr.registry.registry import Registry
from xlmr.registry.signature import Signer, new_key_pair, read_trusted


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    models = small_models(tmp_path_factory.mktemp("models"), 2)
    (models[1] / "README.md").write_text("---\nlicense: mit\n---\n# Router\n")
    (models[1] / "1_Pooling").mkdir()
    (models[1] / "1_Pooling" / "note.txt").write_text("")  # a file in a folder, and an empty one
    return models


@pytest.fixture
def registry(tmp_path: Path, models: list[Path]) -> Registry:
    private, public = new_key_pair()
    (tmp_path / "sign.key").write_bytes(private)
    (tmp_path / "sign.pem").write_bytes(public)
    opened = open_at(tmp_path, signer=Signer(tmp_path / "sign.key"))
    for model in models:
        opened.push("router", model)
    opened.set_alias("router@1", "live", report=gate_report(models[0]))
    opened.set_alias("router@1", "v1")  # a word that MLflow keeps for itself
    return opened


def send(registry: Registry, reference: str, place: str) -> Sent:
    return export_version(registry, registry.resolve(reference), exchange_at(place))


def test_a_version_is_found_there_and_comes_back(
    client: mlflow.MlflowClient, registry: Registry, tmp_path: Path
) -> None:
    sent = send(registry, "router@1", "mlflow:whole")
    assert sent == Sent(place="mlflow:whole@1", left_out=("alias v1",))
    was = registry.resolve("router@1")
    found = client.get_model_version_by_alias("whole", "live")
    assert (found.version, found.status) == ("1", "READY")
    assert found.tags["xlmr.digest"] == was.digest
    assert found.tags["xlmr.version"] == "router@1"
    assert found.tags["xlmr.code"] == "revision 1"
    assert found.tags["xlmr.evidence"] == registry.catalogue.entries(alias="live")[-1].evidence
    assert "xlmr.license" not in found.tags
    assert {a.path for a in client.list_artifacts(found.run_id)} == {"model"}

    assert send(registry, "router@2", "mlflow:whole").place == "mlflow:whole@2"
    assert client.get_model_version("whole", "2").tags["xlmr.license"] == "mit"
    other = open_at(tmp_path / "other", trusted=read_trusted(str(tmp_path / "sign.pem")))
    newest = import_version(other, "theirs", exchange_at("mlflow:whole"))
    assert newest.digest == registry.resolve("router@2").digest
    live = import_version(other, "theirs", exchange_at("mlflow:whole@live"))
    assert (live.digest, live.version) == (was.digest, 2)
    assert other.manifest(live) == registry.manifest(was)
    assert import_version(other, "theirs", exchange_at("mlflow:whole@1")) == live
    for number in (1, 2):
        other.verify(f"theirs@{number}")


def test_what_is_there_already_is_not_sent_again(
    client: mlflow.MlflowClient, registry: Registry, models: list[Path]
) -> None:
    for reference in ("router@1", "router@2"):
        send(registry, reference, "mlflow:again")
    registry.set_alias("router@2", "live", report=gate_report(models[1], live=models[0]))
    assert send(registry, "router@2", "mlflow:again").place == "mlflow:again@2"
    assert len(client.search_model_versions("name = 'again'")) == 2
    assert client.get_model_version_by_alias("again", "live").version == "2"
    assert "xlmr.evidence" in client.get_model_version("again", "2").tags


def test_what_was_exchanged_there_is_refused(
    client: mlflow.MlflowClient, registry: Registry, tmp_path: Path
) -> None:
    send(registry, "router@1", "mlflow:tampered")
    run_id = client.get_model_version("tampered", "1").run_id
    altered = tmp_path / "config.json"
    altered.write_text(json.dumps({"model_type": "xlm-roberta", "vocab_size": 3}))
    client.log_artifact(run_id, str(altered), "model")
    with pytest.raises(DigestMismatchError, match=r"config\.json was altered"):
        import_version(registry, "theirs", exchange_at("mlflow:tampered"))
    # A whole other release in its place: its files agree with its manifest, not with the tag.
    registry.pull("router@2", tmp_path / "two")
    client.log_artifacts(run_id, str(tmp_path / "two"), "model")
    with pytest.raises(DigestMismatchError, match="its tag says"):
        import_version(registry, "theirs", exchange_at("mlflow:tampered"))
    assert registry.catalogue.versions("theirs") == []


def test_what_is_not_there_is_said(
    client: mlflow.MlflowClient, registry: Registry, tmp_path: Path
) -> None:
    client.create_registered_model("empty")
    for place in ("nobody", "nobody@1", "nobody@live", "empty", "empty@1", "empty@live"):
        with pytest.raises((VersionNotFoundError, RegistryUnavailableError), match=place):
            import_version(registry, "theirs", exchange_at(f"mlflow:{place}"))
    with pytest.raises(RegistryError, match="a name is"):
        exchange_at("mlflow:a'b")


def test_a_version_of_others_is_none_of_ours(
    client: mlflow.MlflowClient, registry: Registry, models: list[Path]
) -> None:
    experiment = client.create_experiment("others")
    run_id = client.create_run(experiment).info.run_id
    client.log_artifacts(run_id, str(models[0]), "model")
    client.create_registered_model("others")
    client.create_model_version("others", f"runs:/{run_id}/model", run_id)
    with pytest.raises(RegistryError, match=r"no xlmr-manifest\.json"):
        import_version(registry, "theirs", exchange_at("mlflow:others"))


def test_a_server_that_is_gone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        mlflow.set_tracking_uri(address)
        with pytest.raises(RegistryUnavailableError, match="mlflow:gone"):
            send(registry, "router@1", "mlflow:gone")


def test_as_it_is_typed(
    client: mlflow.MlflowClient, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLMR_REGISTRY", str(tmp_path / "registry"))

    def said(*words: object) -> str:
        done = CliRunner().invoke(cli, ["registry", *map(str, words)])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    said("push", "router", models[0])
    assert "router@1 is in mlflow:typed@1" in said("export", "router@1", "--to", "mlflow:typed")
    came = json.loads(said("import", "theirs", "--from", "mlflow:typed@1", "--json"))
    pushed = json.loads(said("show", "router@1", "--json"))
    assert came["digest"] == pushed["digest"]
