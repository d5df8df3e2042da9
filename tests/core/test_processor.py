"""What processors can do, by what they say of themselves."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from cognitive_memory.core.processor import (
    CPUINFO,
    Processor,
    detect_processor,
    int8_warning,
    parse_cpuinfo,
    parse_sysctl,
)

HASWELL = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz
flags		: fpu vme sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c bmi1 avx2 bmi2 erms
bugs		: cpu_meltdown spectre_v1

processor	: 1
flags		: fpu vme sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c bmi1 avx2 bmi2 erms
"""

SAPPHIRE_RAPIDS = """\
processor	: 0
model name	: Intel(R) Xeon(R) Platinum 8480+
flags		: fpu avx2 avx512f avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8
"""

ALDER_LAKE = "processor\t: 0\nflags\t\t: fpu sse4_2 avx2 avx_vnni\n"

SKYLAKE_X = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512dq avx512cd avx512bw avx512vl\n"

GRAVITON_3 = """\
processor	: 0
BogoMIPS	: 2100.00
Features	: fp asimd evtstrm aes atomics fphp asimdhp asimddp sha512 sve i8mm bf16
CPU implementer	: 0x41
"""

RASPBERRY_PI_4 = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41

Revision	: d03114
Model		: Raspberry Pi 4 Model B Rev 1.4
"""

APPLE_M1 = """\
hw.optional.floatingpoint: 1
hw.optional.arm64: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_BF16: 0
hw.optional.arm.FEAT_I8MM: 0
"""

APPLE_M2 = APPLE_M1.replace("BF16: 0", "BF16: 1").replace("I8MM: 0", "I8MM: 1")

INTEL_MAC = "hw.optional.avx2_0: 1\nhw.optional.avx512f: 0\n"


@pytest.mark.parametrize(
    ("architecture", "text", "dot_products", "bfloat16", "is_exact"),
    [
        ("x86_64", HASWELL, False, False, False),
        ("x86_64", SKYLAKE_X, False, False, False),
        ("x86_64", ALDER_LAKE, True, False, True),
        ("x86_64", SAPPHIRE_RAPIDS, True, True, True),
        ("arm64", GRAVITON_3, True, True, True),
        ("arm64", RASPBERRY_PI_4, False, False, True),
        ("x86_64", "", None, None, False),
        ("riscv64", "processor\t: 0\nisa\t\t: rv64imafdc\n", None, None, False),
    ],
)
def test_cpuinfo(
    architecture: str,
    text: str,
    dot_products: bool | None,
    bfloat16: bool | None,
    is_exact: bool,
) -> None:
    processor = Processor(architecture, parse_cpuinfo(text))
    assert processor.has_dot_products is dot_products
    assert processor.has_bfloat16 is bfloat16
    assert processor.is_exact_in_int8 is is_exact


@pytest.mark.parametrize(
    ("text", "features"),
    [
        (APPLE_M1, {"asimddp"}),
        (APPLE_M2, {"asimddp", "bf16", "i8mm"}),
        (INTEL_MAC, None),
        ("", None),
    ],
)
def test_sysctl(text: str, features: set[str] | None) -> None:
    assert parse_sysctl(text) == features


@pytest.mark.parametrize(
    ("architecture", "text", "missing"),
    [
        ("x86_64", HASWELL, "VNNI"),
        ("arm64", RASPBERRY_PI_4, "dot products"),
        ("x86_64", ALDER_LAKE, None),
        ("x86_64", SAPPHIRE_RAPIDS, None),
        ("arm64", GRAVITON_3, None),
        ("x86_64", "", None),
    ],
)
def test_who_computes_slowly_in_int8_is_told_what_to_set(
    architecture: str, text: str, missing: str | None
) -> None:
    warning = int8_warning(Processor(architecture, parse_cpuinfo(text)))
    if missing is None:
        assert warning is None
    else:
        assert warning is not None
        assert f"has no 8-bit {missing}: " in warning
        assert warning.endswith("set COGNITIVE_MEMORY_EMBEDDING__PRECISION=fp32")


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("AMD64", "x86_64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("ppc64le", "ppc64le")],
)
def test_architectures_have_one_name(tmp_path: Path, machine: str, architecture: str) -> None:
    (tmp_path / "cpuinfo").write_text(GRAVITON_3, encoding="utf-8")
    processor = detect_processor(tmp_path / "cpuinfo", "Linux", machine)
    assert processor == Processor(architecture, parse_cpuinfo(GRAVITON_3))


def test_without_a_source_nothing_is_known(tmp_path: Path) -> None:
    for system in ("Linux", "Windows", "Plan9"):
        assert detect_processor(tmp_path / "none", system, "x86_64") == Processor("x86_64", None)


@pytest.mark.skipif(not CPUINFO.exists(), reason="reads /proc/cpuinfo")
def test_this_processor() -> None:
    processor = detect_processor()
    assert processor.architecture
    if platform.machine() in ("x86_64", "aarch64"):
        assert processor.features
        assert processor.has_dot_products is not None
