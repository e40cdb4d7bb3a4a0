"""MLflow's model registry. Where its server is, MLflow's own variables say.

A version of ours is a version there: the released directory as artifacts of a run, tags that say
which it is and where it comes from, and our aliases. One that is there already, by the digest of
its tree, is not sent again.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlmr.errors import (
    DigestMismatchError,
    MissingExtraError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from xlmr.registry.exchange import Release, Sent, Write
from xlmr.registry.lineage import told_by
from xlmr.registry.manifest import read_manifest
from xlmr.registry.names import check_name
from xlmr.settings import keep_packages_quiet

_EXPERIMENT = "xlmr registry"
_ARTIFACTS = "model"
_DIGEST = "xlmr.digest"
# What every MLflow server stores of a tag.
_MOST_SIGNS = 5000
# `latest` and `v1` are words of its own.
_ALIAS = re.compile(r"(?!(latest|v\d+)$)[\w-]{1,255}", re.IGNORECASE)


class MlflowModel:
    """A registered model.

    Args:
        mlflow: the package.
        name: `MODEL`; to fetch, also `MODEL@VERSION` or `MODEL@ALIAS`; the newest where it does
            not say.
    """

    def __init__(self, mlflow: Any, name: str) -> None:
        self._mlflow = mlflow
        self._client = mlflow.MlflowClient()
        self._name, _, self._wanted = name.partition("@")
        self.place = f"mlflow:{name}"
        check_name(self._name)

    def send(self, release: Release, write: Write) -> Sent:
        """See `Exchange`."""
        with self._translated():
            self._make_model()
            number = self._known(release.manifest.digest)
        if not number:
            with tempfile.TemporaryDirectory(prefix="xlmr-export-") as scratch:
                directory = Path(scratch) / _ARTIFACTS
                write(directory, False)
                with self._translated():
                    number = self._add(release, directory)
        with self._translated():
            for name, value in _tags(release).items():
                self._client.set_model_version_tag(self._name, number, name, value)
            left_out = self._name_it(number, release.aliases)
        return Sent(place=f"mlflow:{self._name}@{number}", left_out=left_out)

    @contextmanager
    def fetch(self) -> Iterator[Path]:
        """See `Exchange`."""
        with self._translated():
            found = self._version()
            source = self._client.get_model_version_download_uri(self._name, found.version)
        with tempfile.TemporaryDirectory(prefix="xlmr-import-") as scratch:
            with self._translated():
                got = self._mlflow.artifacts.download_artifacts(
                    artifact_uri=source, dst_path=scratch
                )
            directory = Path(got)
            said, is_ = found.tags.get(_DIGEST, ""), read_manifest(directory).digest
            if said and said != is_:
                raise DigestMismatchError(
                    f"{self._name}@{found.version}: its files are {is_[:12]}, its tag says "
                    f"{said[:12]}",
                    hint="somebody exchanged one of them on the MLflow server",
                )
            yield directory

    def _make_model(self) -> None:
        try:
            self._client.create_registered_model(self._name)
        except self._mlflow.exceptions.MlflowException as fault:
            if fault.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _known(self, digest: str) -> str:
        """The version that has this tree; empty for none."""
        found = self._newest(f" AND tags.`{_DIGEST}` = '{digest}'")
        return str(found.version) if found is not None and found.status == "READY" else ""

    def _add(self, release: Release, directory: Path) -> str:
        version = release.version
        title = f"{version.name}@{version.version}"
        run = self._client.create_run(self._experiment(), run_name=title)
        run_id = run.info.run_id
        try:
            self._client.log_artifacts(run_id, str(directory), _ARTIFACTS)
        except BaseException:
            self._client.set_terminated(run_id, "FAILED")
            raise
        self._client.set_terminated(run_id, "FINISHED")
        made = self._client.create_model_version(
            self._name,
            f"runs:/{run_id}/{_ARTIFACTS}",
            run_id,
            tags=_tags(release),
            description=f"{title} of a registry of xlmr's",
        )
        return str(made.version)

    def _name_it(self, number: str, aliases: tuple[str, ...]) -> tuple[str, ...]:
        """Gives a version our aliases; those that MLflow cannot take."""
        for alias in filter(_ALIAS.fullmatch, aliases):
            self._client.set_registered_model_alias(self._name, alias, number)
        return tuple(f"alias {alias}" for alias in aliases if not _ALIAS.fullmatch(alias))

    def _version(self) -> Any:
        if self._wanted.isdecimal():
            return self._client.get_model_version(self._name, self._wanted)
        if self._wanted:
            return self._client.get_model_version_by_alias(self._name, self._wanted)
        found = self._newest()
        if found is None:
            raise VersionNotFoundError(f"{self.place}: no such model, or none of its versions")
        return found

    def _newest(self, further: str = "") -> Any | None:
        asked = f"name = '{self._name}'{further}"
        found = self._client.search_model_versions(
            asked, max_results=1, order_by=["version_number DESC"]
        )
        return found[0] if found else None

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        return str(found.experiment_id if found else self._client.create_experiment(_EXPERIMENT))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._mlflow.exceptions.MlflowException as fault:
            said = str(fault).strip().splitlines()[0][:200]
            if fault.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise VersionNotFoundError(f"{self.place}: {said}") from fault
            raise RegistryUnavailableError(
                f"{self.place}: {said}", hint="MLFLOW_TRACKING_URI says where its server is"
            ) from fault
        except OSError as fault:
            raise RegistryUnavailableError(f"{self.place}: {fault}") from fault


def connect(name: str) -> MlflowModel:
    """A registered model, by name.

    Raises:
        MissingExtraError: mlflow is not installed.
    """
    keep_packages_quiet()
    try:
        import mlflow
    except ImportError:
        raise MissingExtraError("mlflow", extra="mlflow") from None
    return MlflowModel(mlflow, name)


def _tags(release: Release) -> dict[str, str]:
    """What others see of a version without fetching it."""
    manifest, version = release.manifest, release.version
    tags = {
        _DIGEST: manifest.digest,
        "xlmr.version": f"{version.name}@{version.version}",
        "xlmr.answers": manifest.answers,
        "xlmr.tokenizer": manifest.tokenizer,
        "xlmr.tasks": ", ".join(manifest.tasks),
        "xlmr.license": manifest.license,
        "xlmr.evidence": release.evidence,
    }
    said: dict[str, list[str]] = {}
    for name, value in told_by(manifest.lineage):
        said.setdefault(name, []).append(value)
    for name in ("recipe", "code", "parent", "data"):
        tags[f"xlmr.{name}"] = "\n".join(said.get(name, ()))
    return {name: _short(value) for name, value in tags.items() if value}


def _short(value: str) -> str:
    """A value that fits into a tag: one that does not is named by its digest."""
    if len(value) <= _MOST_SIGNS:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    return f"{value.count(chr(10)) + 1} lines, SHA-256 {digest}: see xlmr-manifest.json"
