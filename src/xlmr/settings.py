"""Every knob and every environment variable, once.

`Settings.from_environment` is called at the edge (the CLI, a test); everything below takes the
frozen value, or the one field it needs, as an argument. No other module reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xlmr.knob import knob, parse


def _default_cache() -> Path:
    return Path("~/.cache/xlmr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process. Sizes are in the unit their name ends in."""

    runtime: str = knob(
        "native", "XLMR_RUNTIME", "which runtime computes", choices=("native", "reference", "torch")
    )
    precision: str = knob(
        "int8", "XLMR_PRECISION", "number format of the matrices", choices=("int8", "bf16", "fp32")
    )
    isa: str = knob(
        "auto",
        "XLMR_ISA",
        "force the native runtime's kernels; auto picks the best the processor has",
        choices=("auto", "avx512bf16", "avx512vnni", "avx2vnni", "avx2", "neon", "portable"),
    )
    threads: int = knob(
        0, "XLMR_THREADS", "compute threads; 0 follows the cgroup quota and the affinity", minimum=0
    )
    cache_dir: Path = knob(
        _default_cache(), "XLMR_CACHE_DIR", "where downloads and prepared weights are kept"
    )
    host: str = knob("127.0.0.1", "XLMR_HOST", "address the server listens on")
    port: int = knob(8080, "XLMR_PORT", "port the server listens on; 0 takes a free one", minimum=0)
    grpc_port: int = knob(
        -1,
        "XLMR_GRPC_PORT",
        "port for gRPC, which needs the extra grpc; 0 takes a free one, -1 opens none",
        minimum=-1,
    )
    max_body_bytes: int = knob(
        4 * 1024 * 1024, "XLMR_MAX_BODY_BYTES", "largest request body", minimum=1
    )
    max_items: int = knob(256, "XLMR_MAX_ITEMS", "most texts in one request", minimum=1)
    max_chars: int = knob(1_000_000, "XLMR_MAX_CHARS", "longest text, in characters", minimum=1)
    max_tokens: int = knob(
        0,
        "XLMR_MAX_TOKENS",
        "most tokens computed for one request; 0 takes what can wait at all",
        minimum=0,
    )
    batch_tokens: int = knob(
        4096, "XLMR_BATCH_TOKENS", "most tokens computed in one batch", minimum=1
    )
    queue_tokens: int = knob(
        65_536,
        "XLMR_QUEUE_TOKENS",
        "most tokens waiting; beyond it requests are refused",
        minimum=1,
    )
    batch_ms: int = knob(
        100,
        "XLMR_BATCH_MS",
        "how long a batch should take at most, so that nobody waits long for the next; 0 goes by "
        "tokens alone",
        minimum=0,
    )
    age_bound_ms: int = knob(
        2000,
        "XLMR_AGE_BOUND_MS",
        "how long a request may wait for more urgent ones before it is given turns of its own",
        minimum=1,
    )
    default_deadline_ms: int = knob(
        0,
        "XLMR_DEFAULT_DEADLINE_MS",
        "deadline of requests that name none: what would take longer is refused at once; 0 sets "
        "none",
        minimum=0,
    )
    keys_file: str = knob(
        "",
        "XLMR_KEYS_FILE",
        "API keys, as `xlmr keys` writes them; watched, so keys come and go without a restart",
    )
    jwks: str = knob(
        "",
        "XLMR_JWKS",
        "file or https URL of the keys that sign callers' tokens (JWT); needs the extra jwt",
    )
    jwt_issuer: str = knob("", "XLMR_JWT_ISSUER", "who must have issued callers' tokens")
    jwt_audience: str = knob("", "XLMR_JWT_AUDIENCE", "whom callers' tokens must be meant for")
    jwt_roles_claim: str = knob(
        "roles", "XLMR_JWT_ROLES_CLAIM", "where a token names its roles; dots lead into objects"
    )
    anonymous_roles: str = knob(
        "",
        "XLMR_ANONYMOUS_ROLES",
        "what callers may do where no keys are asked for, as predict,feedback,operate; all of it "
        "on a loopback address unless it is given, elsewhere all but operate",
    )
    metrics_role: str = knob(
        "", "XLMR_METRICS_ROLE", "the role that /metrics asks for", choices=("operate",)
    )
    tls_cert: str = knob("", "XLMR_TLS_CERT", "certificate chain (PEM); serves HTTPS")
    tls_key: str = knob("", "XLMR_TLS_KEY", "its private key (PEM)")
    client_seconds: int = knob(
        30,
        "XLMR_CLIENT_SECONDS",
        "longest wait for a request to arrive whole, and for a client to take its answer",
        minimum=1,
    )
    drain_seconds: int = knob(
        30, "XLMR_DRAIN_SECONDS", "longest wait for requests in flight when stopping", minimum=0
    )
    drain_pause_seconds: int = knob(
        0,
        "XLMR_DRAIN_PAUSE_SECONDS",
        "on SIGTERM, how long requests are still taken while readiness is down already, so that "
        "load balancers notice",
        minimum=0,
    )
    ready_seconds: int = knob(
        20,
        "XLMR_READY_SECONDS",
        "readiness falls when the engine has answered nothing, its own probe included, for so long",
        minimum=1,
    )
    workers: int = knob(
        0,
        "XLMR_WORKERS",
        "processes that compute, with the processors shared out among them; 0 computes in the "
        "server's own",
        minimum=0,
    )
    worker_timeout_seconds: int = knob(
        60,
        "XLMR_WORKER_TIMEOUT_SECONDS",
        "a worker that takes longer for one batch is taken for hung, and replaced",
        minimum=1,
    )
    models_dir: str = knob(
        "",
        "XLMR_MODELS_DIR",
        "the directory below which models may be loaded over the API; none unless it is given",
    )
    cache_bytes: int = knob(
        64 * 1024 * 1024,
        "XLMR_CACHE_BYTES",
        "memory for answers that may be asked for again; 0 keeps none",
        minimum=0,
    )
    redis_url: str = knob(
        "",
        "XLMR_REDIS_URL",
        "a Redis through which servers share answers, quotas and the counts of rollouts, as "
        "redis://host:6379/0 or, over TLS, rediss://; none unless it is given",
        secret=True,
    )
    redis_timeout_ms: int = knob(
        5,
        "XLMR_REDIS_TIMEOUT_MS",
        "how long Redis is waited for; one that takes longer is done without",
        minimum=1,
    )
    cache_ttl_s: int = knob(
        86_400, "XLMR_CACHE_TTL_S", "how long Redis keeps an answer, in seconds", minimum=1
    )
    cache_secret: str = knob(
        "",
        "XLMR_CACHE_SECRET",
        "shared by servers that share answers: without it, nobody who reads Redis can tell whether "
        "a given text was asked",
        secret=True,
    )
    quota_requests_per_s: float = knob(
        0.0,
        "XLMR_QUOTA_REQUESTS_PER_S",
        "requests a second for each caller without a quota of their own; 0 sets no limit",
        minimum=0,
    )
    quota_request_burst: float = knob(
        0.0,
        "XLMR_QUOTA_REQUEST_BURST",
        "requests at once after a pause; 0 allows ten seconds' worth",
        minimum=0,
    )
    quota_tokens_per_s: float = knob(
        0.0,
        "XLMR_QUOTA_TOKENS_PER_S",
        "computed tokens a second for each caller without a quota of their own; 0 sets no limit",
        minimum=0,
    )
    quota_token_burst: float = knob(
        0.0,
        "XLMR_QUOTA_TOKEN_BURST",
        "computed tokens at once after a pause; 0 allows ten seconds' worth",
        minimum=0,
    )
    log_level: str = knob(
        "info",
        "XLMR_LOG_LEVEL",
        "how much is logged",
        choices=("debug", "info", "warning", "error"),
    )
    otlp_endpoint: str = knob(
        "",
        "XLMR_OTLP_ENDPOINT",
        "where a collector takes OpenTelemetry traces over HTTP; no traces unless it is given",
    )
    trace_sample_ratio: float = knob(
        1.0,
        "XLMR_TRACE_SAMPLE_RATIO",
        "share of the requests that are traced, where their callers do not say",
        minimum=0,
        maximum=1,
    )
    price_per_hour: float = knob(
        0.0,
        "XLMR_PRICE_PER_HOUR",
        "what an hour of this machine costs, in any currency, for the metrics of cost",
        minimum=0,
    )
    registry: str = knob(
        "~/.local/share/xlmr/registry",
        "XLMR_REGISTRY",
        "the registry: a directory, or the URL of its database, as postgresql://USER@HOST/DATABASE",
        secret=True,
    )
    registry_store: str = knob(
        "",
        "XLMR_REGISTRY_STORE",
        "where the registry's artifacts lie: a path, or a URL of fsspec such as s3://BUCKET/PATH; "
        "below the registry's directory unless it is given",
    )
    registry_roles: str = knob(
        "", "XLMR_REGISTRY_ROLES", "TOML that says who may push, promote and read; all may without"
    )
    registry_key: str = knob(
        "", "XLMR_REGISTRY_KEY", "shows who acts, where the roles file asks for a key", secret=True
    )
    sign_key: str = knob(
        "", "XLMR_SIGN_KEY", "private key (PEM) that signs what is pushed; none signs nothing"
    )
    sign_password: str = knob("", "XLMR_SIGN_PASSWORD", "unlocks the private key", secret=True)
    trusted_keys: str = knob(
        "",
        "XLMR_TRUSTED_KEYS",
        "public keys (PEM; a file, or a directory of them, with identities.toml for keyless "
        "signatures) that count: what none of them signed is neither promoted, pulled nor served",
    )
    allow_unsigned: str = knob(
        "no",
        "XLMR_ALLOW_UNSIGNED",
        "serve models that nobody signed, although keys are trusted or they come from a registry",
        choices=("no", "yes"),
    )
    follow_seconds: float = knob(
        1.0,
        "XLMR_FOLLOW_SECONDS",
        "how often a server that serves from a registry looks what changed there",
        minimum=0.05,
    )
    seal_key: str = knob(
        "",
        "XLMR_SEAL_KEY",
        "32 bytes in hex or base64 by which stored files are encrypted; none stores them plainly",
        secret=True,
    )
    seal_key_file: str = knob("", "XLMR_SEAL_KEY_FILE", "a file that holds the same key")
    feedback: str = knob(
        "", "XLMR_FEEDBACK", "the feedback store: a SQLite file, or a database's URL", secret=True
    )
    feedback_policy: str = knob(
        "", "XLMR_FEEDBACK_POLICY", "TOML: what is kept of texts, how long; no text without it"
    )
    feedback_key: str = knob(
        "", "XLMR_FEEDBACK_KEY", "hex; hashes texts and people in the feedback store", secret=True
    )
    pseudonym_key: str = knob(
        "", "XLMR_PSEUDONYM_KEY", "hex; makes placeholders in texts readable again", secret=True
    )
    drift: str = knob(
        "",
        "XLMR_DRIFT",
        "the drift store: a SQLite file, or a database's URL; the feedback store's unless given",
        secret=True,
    )
    drift_alarms: float = knob(
        1.0,
        "XLMR_DRIFT_ALARMS",
        "false drift alarms that are put up with in a month, of all servers together",
        minimum=0.01,
    )
    prometheus: str = knob(
        "", "XLMR_PROMETHEUS", "where a Prometheus is asked for alerts, as http://localhost:9090"
    )
    tracker: str = knob(
        "", "XLMR_TRACKER", "who is told of a training run's steps", choices=("mlflow", "wandb")
    )
    country: str = knob(
        "",
        "XLMR_COUNTRY",
        "three letters (ISO 3166) of where this machine stands, for a run's emissions",
    )

    def __post_init__(self) -> None:
        # Here, so that nobody who uses it makes a directory called "~".
        object.__setattr__(self, "cache_dir", self.cache_dir.expanduser())

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, **overrides: Any
    ) -> Settings:
        """Reads the environment; keyword overrides (a command line) win. None means "not given".

        Raises:
            SettingsError: a value is not of its kind, not among its choices, or below its minimum.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for one in fields(cls):
            given = overrides.get(one.name)
            if given is None:
                given = environ.get(one.metadata["variable"]) or None
            if given is not None:
                values[one.name] = parse(given, one.default, one.metadata)
        return cls(**values)


def keep_blas_out_of_the_way() -> None:
    """Gives numpy's BLAS one thread unless told otherwise. Call it before numpy is imported.

    Our matrices outside the engine are small: a thread pool of BLAS's own only takes cores from
    the engine (a head's product measured 70 times slower on two busy cores).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_packages_quiet() -> None:
    """Tells optional packages, before they are imported, to report nothing about their use.

    Each does so by default, over the network. What the environment already says stands.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Its default waits minutes for a server that is gone; and its project would be "uncategorized".
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("WANDB_PROJECT", "xlmr")
