"""Commands that look after the store."""

from __future__ import annotations

import argparse
from typing import Any

from .common import DONE, FAILED, add_command, print_result, read_settings


def add_upkeep_commands(commands: Any) -> None:
    """``doctor``."""
    _add_doctor(commands)


def _add_doctor(commands: Any) -> None:
    add_command(
        commands, "doctor", _doctor, "Check settings, model and store; 1 if one is unsound."
    )


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..diagnosis import diagnose

    findings = list(diagnose(read_settings()))
    marks = {True: "ok   ", False: "FAULT"}
    lines = [f"{marks[each.sound]}  {each.check}: {each.detail}" for each in findings]
    print_result(options, {"findings": [asdict(each) for each in findings]}, lines)
    return DONE if all(each.sound for each in findings) else FAILED
