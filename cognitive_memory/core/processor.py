"""What this processor can compute in one instruction: 8-bit dot products, bfloat16.

ONNX Runtime multiplies 8-bit numbers on x86 in two steps where there is no VNNI, and the first of
them saturates at 16 bits: the sums are wrong, not only rounded.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}

_DOT_PRODUCTS = {
    "x86_64": frozenset({"avx512_vnni", "avx_vnni", "amx_int8"}),
    "arm64": frozenset({"asimddp", "i8mm"}),
}
_BFLOAT16 = {
    "x86_64": frozenset({"avx512_bf16", "amx_bf16"}),
    "arm64": frozenset({"bf16"}),
}

_APPLE_NAMES = {"FEAT_DotProd": "asimddp", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16"}
"""What macOS calls the features that Linux names in /proc/cpuinfo."""


@dataclass(frozen=True, slots=True)
class Processor:
    """An architecture and the names that Linux gives its features; ``None``: not known."""

    architecture: str
    features: frozenset[str] | None

    @property
    def has_dot_products(self) -> bool | None:
        """Whether sums of 8-bit products take one instruction; ``None`` when not known."""
        return self._has_any(_DOT_PRODUCTS)

    @property
    def has_bfloat16(self) -> bool | None:
        """Whether it multiplies bfloat16; ``None`` when not known."""
        return self._has_any(_BFLOAT16)

    @property
    def is_exact_in_int8(self) -> bool:
        """Whether 8-bit products are known never to saturate."""
        return self.architecture == "arm64" or bool(self.has_dot_products)

    def _has_any(self, known: dict[str, frozenset[str]]) -> bool | None:
        if self.features is None or self.architecture not in known:
            return None
        return bool(self.features & known[self.architecture])


def int8_warning(processor: Processor) -> str | None:
    """What to tell who computes in int8 here, if there is anything to tell."""
    if processor.has_dot_products is not False:
        return None
    missing = "dot products" if processor.architecture == "arm64" else "VNNI"
    return (
        f"this processor has no 8-bit {missing}: int8 gives the right vectors, but slowly; fp32 "
        "may be faster, set COGNITIVE_MEMORY_EMBEDDING__PRECISION=fp32"
    )


def parse_cpuinfo(text: str) -> frozenset[str] | None:
    r"""The features of the first core in ``/proc/cpuinfo``; ``None`` if it names none.

    >>> sorted(parse_cpuinfo("processor : 0\nflags : fpu avx2\n") or [])
    ['avx2', 'fpu']
    """
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(line[1].split()) if line else None


def parse_sysctl(text: str) -> frozenset[str] | None:
    r"""The features of an Apple processor in the output of ``sysctl hw.optional``.

    ``None`` if it names none, as on those of Intel.

    >>> parse_sysctl("hw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_BF16: 0\n")
    frozenset({'asimddp'})
    """
    flags = re.findall(r"^hw\.optional\.arm\.(\w+): ([01])$", text, re.MULTILINE)
    if not flags:
        return None
    return frozenset(
        _APPLE_NAMES[name] for name, is_set in flags if is_set == "1" and name in _APPLE_NAMES
    )


def detect_processor(
    cpuinfo: Path = CPUINFO, system: str | None = None, machine: str | None = None
) -> Processor:
    """The processor of this machine, by default; its features are not known on Windows."""
    machine = machine or platform.machine()
    architecture = _ARCHITECTURES.get(machine.lower(), machine)
    system = system or platform.system()
    if system == "Linux":
        features = parse_cpuinfo(_read(cpuinfo))
    elif system == "Darwin":
        features = parse_sysctl(_sysctl())
    else:
        features = None
    return Processor(architecture, features)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl() -> str:
    import subprocess  # here: it takes as long to import as reading the features elsewhere

    command = ["/usr/sbin/sysctl", "hw.optional"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
