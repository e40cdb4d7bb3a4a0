"""A worker process: `python -m xlmr.serving.worker SOCKET MEMORY PROCESSORS`.

Started by `workers.py` alone. It opens one encoder, says so, and computes batch after batch until
the socket ends. When its parent goes, for whatever reason, it goes at once, also out of the middle
of a batch.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlmr.settings import keep_blas_out_of_the_way

if TYPE_CHECKING:
    from xlmr.model.runtime import Runtime
    from xlmr.serving.wire import Frame, Slate


def main() -> None:
    """Serves one parent."""
    # Signals to the whole group (Ctrl-C in a terminal) are for the parent, which drains first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    line = socket.socket(fileno=int(sys.argv[1]))
    # Threads inherit both, so they come before those that numpy and the engine start.
    processors = [int(number) for number in sys.argv[3].split(",") if number]
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    keep_blas_out_of_the_way()
    threading.Thread(target=_leave_with_parent, args=(line.fileno(),), daemon=True).start()
    from xlmr.serving.wire import GoneError

    try:
        _live(line, int(sys.argv[2]))
    except GoneError:
        return


def _live(line: socket.socket, memory: int) -> None:
    from xlmr.errors import XlmrError
    from xlmr.serving.wire import Frame, Slate, fault_frame, receive, send

    order = receive(line).json()
    from xlmr.telemetry.logs import configure_logging

    configure_logging(order["log_level"])
    try:
        runtime = _open(order)
    except XlmrError as fault:
        send(line, fault_frame(fault))
        return
    slate = Slate(memory, runtime.config, order["batch_tokens"])
    send(line, Frame("ready", content=runtime.name.encode()))
    while True:
        send(line, _answer(runtime, slate, receive(line)))


def _open(order: dict[str, Any]) -> Runtime:
    from xlmr.errors import DigestMismatchError
    from xlmr.model.bundle import open_encoder
    from xlmr.model.runtimes import open_runtime

    cache_dir = Path(order["cache_dir"])
    encoder = open_encoder(Path(order["directory"]), cache_dir=cache_dir)
    if encoder.encoder_digest != order["digest"]:
        raise DigestMismatchError(
            f"{encoder.directory}: the files are not those that were loaded",
            hint="load changed models under another version",
        )
    runtime = open_runtime(
        encoder,
        name=order["runtime"],
        precision=order["precision"],
        threads=order["threads"],
        isa=order["isa"],
        batch_tokens=order["batch_tokens"],
        cache_dir=cache_dir,
    )
    runtime.warm()
    return runtime


def _answer(runtime: Runtime, slate: Slate, frame: Frame) -> Frame:
    """Vectors, or why there are none."""
    from xlmr.errors import EngineError, XlmrError
    from xlmr.serving.wire import fault_frame

    batch, rows = slate.read_batch(frame)
    try:
        return slate.write_hidden(runtime.run(batch, rows=rows).hidden_TD)
    except XlmrError as fault:
        return fault_frame(fault)
    except Exception as fault:
        # Whatever an engine throws, only this batch may feel it. Its words may quote input.
        logging.getLogger("xlmr.serving.worker").exception("the runtime failed")
        return fault_frame(EngineError(f"the runtime failed ({type(fault).__name__})"))


def _leave_with_parent(line: int) -> None:
    """Ends the process when nobody holds the other end of the socket any more."""
    poll = select.poll()
    # No events are asked for: that the other end is closed is always reported.
    poll.register(line, 0)
    poll.poll()
    os._exit(0)


if __name__ == "__main__":
    main()
