"""Cores in reach: the affinity mask and the cgroup's quota."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cognitive_memory.core.resources import usable_cores

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", CORES),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("100000000 100000\n", CORES),
        ("garbage\n", CORES),
        ("", CORES),
        ("1 0\n", CORES),
        ("-1 100000\n", CORES),
        ("0 100000\n", CORES),
        ("max\n", CORES),
        ("50000 100000 7\n", CORES),
        ("half 100000\n", CORES),
        ("\0\xff\xfe", CORES),
    ],
)
def test_quota_of_version_2(content: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(content, encoding="latin-1")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("-1", CORES),
        ("50000", 1),
        ("100000000", CORES),
        ("garbage", CORES),
        ("", CORES),
        ("0", CORES),
        ("\xff", CORES),
    ],
)
def test_quota_of_version_1(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n", encoding="latin-1")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [(150_000, 2), (200_000, 2), (200_001, 3), (1, 1)])
@pytest.mark.parametrize("version", [1, 2])
def test_a_part_of_a_core_counts_as_one(
    version: int, quota: int, cores: int, tmp_path: Path
) -> None:
    if version == 2:
        (tmp_path / "cpu.max").write_text(f"{quota} 100000\n", encoding="ascii")
    else:
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n", encoding="ascii")
        (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert usable_cores(tmp_path) == min(CORES, cores)


def test_version_1_without_a_period_has_no_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n", encoding="ascii")
    assert usable_cores(tmp_path) == CORES


def test_version_2_counts_where_both_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n", encoding="ascii")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n", encoding="ascii")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert usable_cores(tmp_path) == CORES


def test_without_a_cgroup_all_of_the_mask(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_a_narrow_mask_counts() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from cognitive_memory.core.resources import usable_cores; print(usable_cores())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "1\n"
