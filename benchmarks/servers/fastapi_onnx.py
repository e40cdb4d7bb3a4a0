"""The server that most teams write first: FastAPI before ONNX Runtime's int8, one call a request.

python fastapi_onnx.py MODEL_DIRECTORY WORK_DIRECTORY PORT

Its door is OpenAI's for embeddings. The endpoint is a plain function, so FastAPI runs it in a
thread and the tokenizer and the session, which release the interpreter's lock, run beside others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from tokenizers import Tokenizer

from xlmr.evaluation.speed.peers.onnx_runtime import open_contestant
from xlmr.evaluation.speed.subject import open_subject
from xlmr.model.runtimes.processors import usable_processors


class Request(BaseModel):
    """OpenAI's request, as far as the load asks."""

    input: str | list[str]
    model: str | None = None


def build(model: Path, work: Path) -> FastAPI:
    """The application."""
    quantised = work / "encoder-int8.onnx"
    if not quantised.exists():
        work.mkdir(parents=True, exist_ok=True)
        open_contestant(open_subject(str(model)), work, precision="int8", threads=1).close()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_processors()
    session = onnxruntime.InferenceSession(
        str(quantised), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    app = FastAPI()

    @app.post("/v1/embeddings")
    def embeddings(request: Request) -> dict[str, Any]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        encoded = tokenizer.encode_batch(texts)
        ids_BL = np.array([one.ids for one in encoded], np.int64)
        mask_BL = np.array([one.attention_mask for one in encoded], np.int64)
        kinds = {one.name: one.type for one in session.get_inputs()}
        fed = {"ids": ids_BL, "mask": mask_BL}
        fed = {name: _as(kinds[name], array) for name, array in fed.items()}
        hidden_BLD = session.run(None, fed)[0]
        weights_BL1 = mask_BL[:, :, None].astype(np.float32)
        vectors_BD = (hidden_BLD * weights_BL1).sum(1) / weights_BL1.sum(1)
        vectors_BD /= np.linalg.norm(vectors_BD, axis=1, keepdims=True)
        tokens = int(mask_BL.sum())
        return {
            "object": "list",
            "model": "model",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector.tolist()}
                for index, vector in enumerate(vectors_BD)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    return app


def _as(kind: str, array: Any) -> Any:
    types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
    return array.astype(types[kind])


if __name__ == "__main__":
    uvicorn.run(
        build(Path(sys.argv[1]), Path(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[3]),
        log_level="warning",
    )
