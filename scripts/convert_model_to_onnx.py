"""Convert published sentence-transformers files into a model folder, without torch.

    python scripts/convert_model_to_onnx.py --model-dir DIR --out data/models/all-MiniLM-L6-v2

DIR holds model.safetensors, tokenizer.json and config.json as published. The result is compared
with golden vectors before it is put in place. ``cognitive-memory model convert`` does the same
for the models folder of the settings.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from cognitive_memory.core.errors import CognitiveMemoryError
from cognitive_memory.models.convert import EXPORTERS, convert_model
from cognitive_memory.models.registry import get_recipe, load_registry
from cognitive_memory.models.verify import verify_model


def main() -> int:
    """Convert one model; 1 when it is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-dir", type=Path, required=True, help="the published files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", choices=sorted(load_registry()))
    parser.add_argument(
        "--exporter", default="builder", choices=EXPORTERS, help="torch needs the extra 'torch'"
    )
    options = parser.parse_args()
    begin = time.perf_counter()
    try:
        config = convert_model(
            options.model_dir, options.out, get_recipe(options.model), options.exporter
        )
        agreement = verify_model(options.out, config)
    except CognitiveMemoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begin
    print(f"{options.out}: {config.dimension} dimensions, opset {config.opset}, {seconds:.1f} s")
    if agreement is not None:
        print(
            f"{agreement.texts} golden vectors: max absolute error {agreement.max_error:.1e}, "
            f"min cosine {agreement.min_cosine:.7f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
