"""The command line as a process, for the tests beside this file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = (sys.executable, "-m", "cognitive_memory.cli")
HANG_SECONDS = 120
"""A guard against a process that never ends; nothing is measured."""


class Output(NamedTuple):
    """What a process wrote, decoded strictly."""

    stdout: str
    stderr: str


@dataclass(frozen=True)
class Cli:
    """A folder of its own, with a store in ``data``, and the models that are ready."""

    folder: Path
    models: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Path:
        return self.data / "memories.db"

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing of ours is inherited; coverage measures processes through its own variables."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "SYSTEMROOT") or name.startswith("COVERAGE_")
        }
        return {
            **kept,
            "HOME": str(self.folder),
            "HF_HOME": str(self.folder / "huggingface"),
            "COGNITIVE_MEMORY_DATA_DIR": str(self.data),
            "COGNITIVE_MEMORY_MODELS_DIR": str(self.models),
            "COGNITIVE_MEMORY_OFFLINE": "true",
            **(changes or {}),
        }

    def run(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        code: int = 0,
        env: Mapping[str, str] | None = None,
        traceback: bool = False,
    ) -> Output:
        """Run to the end; the exit code and whether there is a traceback are asserted."""
        result = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment(env),
            cwd=self.folder,
            timeout=HANG_SECONDS,
            check=False,
        )
        output = Output(result.stdout.decode(), result.stderr.decode())
        assert result.returncode == code, output
        assert ("Traceback" in output.stderr) == traceback, output
        return output

    def results(self, *arguments: str | bytes, **options: Any) -> str:
        """Standard output of a command that has nothing else to say."""
        output = self.run(*arguments, **options)
        assert output.stderr == ""
        return output.stdout

    def json(self, *arguments: str | bytes, **options: Any) -> Any:
        """The one document that a command prints with ``--json``."""
        return json.loads(self.results(*arguments, "--json", **options))

    def error(self, *arguments: str | bytes, code: int = 1, **options: Any) -> str:
        """The one line with which a command fails, without the program's name before it."""
        output = self.run(*arguments, code=code, **options)
        assert output.stdout == ""
        (line,) = output.stderr.splitlines()
        start = "cognitive-memory: error: "
        assert line.startswith(start)
        return line.removeprefix(start)

    def usage_error(self, *arguments: str | bytes) -> str:
        """The last line with which wrong usage is refused; before it stands the usage."""
        output = self.run(*arguments, code=2)
        assert output.stdout == ""
        assert output.stderr.startswith("usage: cognitive-memory")
        return output.stderr.splitlines()[-1]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """A process that runs on; SIGINT reaches it even if a shell has us ignore it.

        Coverage does not measure it: one that is interrupted may hang in coverage's own lock.
        """
        given = self.environment()
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env={name: given[name] for name in given if not name.startswith("COV")},
            cwd=self.folder,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )

    def store_text(self, text: str, *options: str) -> str:
        """The id under which ``text`` was stored."""
        return str(self.json("store", text, *options)["id"])

    def contents(self) -> int:
        """How many memories the store holds, after all of it was checked."""
        findings = {each["check"]: each for each in self.json("doctor")["findings"]}
        assert findings["store"]["sound"]
        return int(findings["store"]["detail"].partition(" memories, sound")[0].rsplit(" ", 1)[1])
