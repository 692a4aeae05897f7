"""A service of the embedded stack counts as up only by its own process: two stacks may start at the same moment."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from infra.dev.process import listens, spawn, stop, wait_until

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


def test_an_answer_of_somebody_elses_process_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        loser = spawn([sys.executable, "-c", "import time; time.sleep(600)"], port, os.environ, tmp_path / "log")
        assert not wait_until(lambda: listens(port), loser, 0.5)
        stop(loser)
    mine = spawn([sys.executable, "-c", LISTEN, str(port)], port, os.environ, tmp_path / "log")
    assert wait_until(lambda: listens(port), mine, 20)
    stop(mine)
