"""Processes that start in milliseconds: forked from one that has imported everything.

Run as a program it is that one. It has a single thread and no store open when it forks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processes import unmeasured

Role = Callable[..., None]


class Forks:
    """Starts processes, and ends those that still run when it is closed itself."""

    def __init__(self, folder: Path, site: Path) -> None:
        self._errors = folder / "errors.txt"
        here = Path(__file__).parent
        paths = [here, here.parent, site, os.environ.get("PYTHONPATH", "")]
        with self._errors.open("wb") as errors:
            self._server = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**unmeasured(), "PYTHONPATH": os.pathsep.join(map(str, filter(None, paths)))},
            )
        self._alive: set[int] = set()
        self._group = 0

    def start(self, role: str, **values: Any) -> int:
        """The id of a new process, in one group with all that are alive."""
        if not self._alive:
            self._group = 0
        pid = int(self._ask({"role": role, "group": self._group, **values}))
        self._alive.add(pid)
        self._group = self._group or pid
        return pid

    def kill(self, pid: int) -> None:
        """End one process as a power cut would. Raises ``AssertionError`` if it had ended."""
        os.kill(pid, signal.SIGKILL)
        self._reap(pid)

    def kill_all(self) -> int:
        """End all of them at once; how many they were."""
        dying = sorted(self._alive)
        if dying:
            os.killpg(self._group, signal.SIGKILL)
        for pid in dying:
            self._reap(pid)
        return len(dying)

    def wait(self, pid: int) -> None:
        """Until it has ended by itself, and well. Raises ``AssertionError`` otherwise."""
        status = int(self._ask({"wait": pid}))
        self._alive.discard(pid)
        assert status == 0, f"process {pid} ended with {status}: {self._errors.read_text()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._alive:
            os.killpg(self._group, signal.SIGKILL)
        self._server.communicate()

    def _reap(self, pid: int) -> None:
        status = int(self._ask({"wait": pid}))
        self._alive.discard(pid)
        told = self._errors.read_text()
        assert status == -signal.SIGKILL, f"process {pid} ended by itself with {status}: {told}"

    def _ask(self, request: dict[str, Any]) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, self._errors.read_text()
        return answer


def serve(roles: dict[str, Role]) -> None:
    """Fork, or wait for a process that was forked, as each line of standard input says."""
    with tempfile.TemporaryDirectory() as folder:
        roles["warm_up"](path=str(Path(folder) / "store.db"))
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        role, group = roles[request.pop("role")], request.pop("group")
        pid = os.fork()
        if pid == 0:
            _run(role, request)
        # Here, not in the child: a killed group has then no member that comes too late.
        os.setpgid(pid, group or pid)
        print(pid, flush=True)


def _run(role: Role, values: dict[str, Any]) -> None:
    os.close(0)
    status = 1
    try:
        role(**values)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    import crash_writer
    import crowd

    serve({**crash_writer.ROLES, **crowd.ROLES})
