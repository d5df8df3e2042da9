"""A model in int8, step by step: pull, calibrate, quantize, pass the gate, compare the speed.

    python scripts/quantize_model.py [--model NAME] [--texts FILE] [--parts MAP] [--out DIR]

``cognitive-memory model quantize`` does the same and more; this shows the functions behind it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from corpus import paragraphs

from cognitive_memory import Settings
from cognitive_memory.core.processor import detect_processor, int8_warning
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.models.fetch import pull_model
from cognitive_memory.models.precision import PrecisionMap
from cognitive_memory.models.quality import Gate, load_calibration_texts, load_held_texts
from cognitive_memory.models.quantize import quantize_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=Path, help="calibration texts like your own, one a line")
    parser.add_argument("--parts", default="int8", help="precision map, such as int8,output=fp32")
    parser.add_argument("--out", type=Path, help="default: NAME-int8 in the models folder")
    options = parser.parse_args()

    # The fp32 model, from the models folder or from where it is published.
    settings = Settings()
    models = settings.model_folder
    original = pull_model(options.model, models, offline=settings.offline, report=print)

    # Ranges of the inputs are measured on calibration texts; the gate asks others.
    target = options.out or models / f"{original.name}-int8"
    gate = Gate(mean_cosine=0.995, retention=0.99)
    config = quantize_model(
        original,
        target,
        PrecisionMap.parse(options.parts),
        method="static",
        calibration=load_calibration_texts(options.texts),
        held=load_held_texts(),
        gate=gate,
        report=print,
    )
    for name, value in config.quality.items():
        print(f"{name}: {value:.4f} (needed: {getattr(gate, name, 'as it is')})")
    print(f"{megabytes(original):.1f} MB -> {megabytes(target):.1f} MB: {target}")

    # The same paragraphs by turns, so that whatever slows the machine meets both.
    texts = paragraphs(300)
    with ONNXEmbeddingProvider(original) as fp32, ONNXEmbeddingProvider(target) as quantized:
        ratios = [seconds(fp32, texts) / seconds(quantized, texts) for _ in range(4)]
    print(f"{statistics.median(ratios[1:]):.1f} times the texts a second of fp32")  # 0: warms up
    print(int8_warning(detect_processor()) or "this processor multiplies in 8 bits")


def megabytes(folder: Path) -> float:
    return next(folder.glob("*.onnx")).stat().st_size / 1e6


def seconds(provider: ONNXEmbeddingProvider, texts: list[str]) -> float:
    begin = time.perf_counter()
    provider.encode_batch(texts)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
