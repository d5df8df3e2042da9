"""Write the small random encoders that the graph builder is tested with, and their true vectors.

    python scripts/generate_family_fixtures.py [--out DIR]
    python scripts/generate_family_fixtures.py --compare SEEDS

Each family is a model of transformers on torch with random weights; its vectors are those of the
plain (eager) attention in float32, in one padded batch. ``--compare`` writes nothing: it builds
larger models from as many seeds and prints how far the graphs are from them. Needs an environment
made from ``requirements/golden.txt``.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import load_file

from cognitive_memory.encoding.runtime import open_session
from cognitive_memory.models.convert import write_runtime_file
from cognitive_memory.models.encoder_graph import POOLINGS, build_graph

COMMAND = "python scripts/generate_family_fixtures.py"
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "families"
LENGTHS = (1, 2, 3, 9, 17, 40)
"""Real tokens of each text; the longest goes far beyond the window of local attention."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Size:
    """Of a random model."""

    hidden: int = 24
    layers: int = 3
    heads: int = 2
    wide: int = 40
    words: int = 160
    positions: int = 64
    window: int = 4


@dataclass(frozen=True)
class Variant:
    """The same weights under other settings: transformers' names, and keys of ``config.json``."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A folder of fixtures."""

    kind: str
    """Name of the classes in transformers."""
    settings: Mapping[str, Any]
    published: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``config.json`` in place of those that transformers writes; ``None`` removes one."""
    variants: Mapping[str, Variant] = field(default_factory=dict)


def cases(size: Size) -> dict[str, Case]:
    """Every family, each setting of which changes the vectors."""
    common = {
        "vocab_size": size.words,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.wide,
        "max_position_embeddings": size.positions,
    }
    activations = {
        name: Variant({"hidden_act": name}, {"hidden_act": name})
        for name in ("gelu_new", "gelu_pytorch_tanh", "relu", "silu")
    }
    distilled = {
        "vocab_size": size.words,
        "dim": size.hidden,
        "n_layers": size.layers,
        "n_heads": size.heads,
        "hidden_dim": size.wide,
        "max_position_embeddings": size.positions,
    }
    # ModernBERT's own numbers for these lie beyond a small vocabulary.
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    special |= {"cls_token_id": 2, "sep_token_id": 3}
    modern = {**common, **special, "local_attention": 2 * size.window}
    modern |= {"global_attn_every_n_layers": 2}
    shifted = {**common, "max_position_embeddings": size.positions + 2, "pad_token_id": 1}
    return {
        "bert": Case("Bert", common, variants=activations),
        "xlm-roberta": Case(
            "XLMRoberta",
            {**shifted, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
            variants={"roberta": Variant(changes={"model_type": "roberta"})},
        ),
        "distilbert": Case(
            "DistilBert",
            distilled,
            variants={"relu": Variant({"activation": "relu"}, {"activation": "relu"})},
        ),
        "nomic_bert": nomic_case(common),
        "modernbert": Case("ModernBert", modern, variants={"published": published_modern(size)}),
        "modernbert-biased": Case(
            "ModernBert",
            {**modern, "attention_bias": True, "mlp_bias": True, "norm_bias": True},
        ),
    }


def nomic_case(common: Mapping[str, Any]) -> Case:
    """The config as published for nomic-embed-text-v1.5, and as transformers writes it."""
    published = {
        "activation_function": "swiglu",
        "causal": False,
        "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 2048,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": common["hidden_size"],
        "n_head": common["num_attention_heads"],
        "n_inner": common["intermediate_size"],
        "n_layer": common["num_hidden_layers"],
        "n_positions": common["max_position_embeddings"],
        "parallel_block": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "use_rms_norm": False,
    }
    native = {**common, "layer_norm_eps": 1e-12, "hidden_act": "silu"}
    native |= {"rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}}
    native.pop("vocab_size")
    return Case(
        "NomicBert",
        common,
        published=dict.fromkeys([*native, "head_dim"]) | published,
        variants={
            "transformers": Variant(changes=dict.fromkeys(published) | native),
            "geglu": Variant({"hidden_act": "gelu"}, {"activation_function": "geglu"}),
        },
    )


def published_modern(size: Size) -> Variant:
    """The keys of ModernBERT-base, in place of those that transformers 5 writes."""
    rotary = {"global_rope_theta": 80_000.0, "local_rope_theta": 20_000.0}
    changes = {
        "layer_types": None,
        "rope_parameters": None,
        "global_attn_every_n_layers": 3,
        "position_embedding_type": "absolute",
        **rotary,
    }
    kinds = ["sliding_attention" if n % 3 else "full_attention" for n in range(size.layers)]
    return Variant({"layer_types": kinds, **rotary}, changes)


def make_model(case: Case, settings: Mapping[str, Any], seed: int) -> Any:
    """A model with weights that leave their mark on every value."""
    import torch
    import transformers

    config = getattr(transformers, f"{case.kind}Config")(**{**case.settings, **settings})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{case.kind}Model")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            norm = values.dim() == 1 and name.endswith("weight")
            spread = 0.3 if values.dim() == 1 else 1.5 * values.shape[-1] ** -0.5
            values.copy_(noise * spread + float(norm))
    return model


def make_batch(words: int, padding: int, lengths: tuple[int, ...]) -> tuple[Integers, Integers]:
    """Token ids and mask, padded on the right as the reference expects it."""
    random = np.random.default_rng(0)
    ids = np.full((len(lengths), max(lengths)), padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(4, words, length)
        mask[row, :length] = 1
    return ids, mask


def reference_vectors(model: Any, ids: Integers, mask: Integers) -> Floats:
    """(poolings, n, dim) float32, unit rows."""
    import torch

    given = torch.from_numpy(mask)
    with torch.no_grad():
        tokens = model(input_ids=torch.from_numpy(ids), attention_mask=given).last_hidden_state
    weight = given.unsqueeze(-1).to(torch.float32)
    last = given.sum(dim=1) - 1
    pooled = {
        "mean": (tokens * weight).sum(dim=1) / weight.sum(dim=1),
        "cls": tokens[:, 0],
        "last": tokens[torch.arange(len(tokens)), last],
    }
    rows = [torch.nn.functional.normalize(pooled[name], dim=1) for name in POOLINGS]
    vectors: Floats = torch.stack(rows).numpy()
    return vectors


def edit(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with other values; ``None`` removes a key."""
    return {key: value for key, value in {**config, **changes}.items() if value is not None}


def write_case(folder: Path, case: Case, seed: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Weights, config, inputs and the vectors of each variant; what each one changes."""
    model = make_model(case, {}, seed)
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = edit(json.loads(path.read_text(encoding="utf-8")), case.published)
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    ids, mask = make_batch(model.config.vocab_size, model.config.pad_token_id, lengths)
    np.save(folder / "input_ids.npy", ids, allow_pickle=False)
    np.save(folder / "attention_mask.npy", mask, allow_pickle=False)
    variants = {"as_it_is": Variant(), **case.variants}
    for name, variant in variants.items():
        other = make_model(case, variant.settings, seed)
        vectors = reference_vectors(other, ids, mask)
        np.save(folder / f"{name}.npy", vectors, allow_pickle=False)
    return {name: dict(variant.changes) for name, variant in variants.items()}


def write_fixtures(out: Path) -> None:
    """One folder for each case, and ``provenance.json``."""
    changes = {}
    for name, case in cases(Size()).items():
        changes[name] = write_case(out / name, case, seed=0, lengths=LENGTHS)
    packages = ("torch", "transformers", "safetensors", "numpy")
    document = {
        "command": COMMAND,
        "date": datetime.now(UTC).date().isoformat(),
        "generated_with": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
            "platform": platform.machine(),
        },
        "poolings": list(POOLINGS),
        "variants": changes,
    }
    text = json.dumps(document, indent=1) + "\n"
    (out / "provenance.json").write_text(text, encoding="utf-8")


def errors(folder: Path, changes: Mapping[str, Any], expected: Floats) -> Iterator[float]:
    """Largest difference of both forms of the graph, for each pooling."""
    weights = load_file(folder / "model.safetensors")
    config = edit(json.loads((folder / "config.json").read_text(encoding="utf-8")), changes)
    mask = np.load(folder / "attention_mask.npy")
    feed = {"input_ids": np.load(folder / "input_ids.npy") * mask, "attention_mask": mask}
    for pooling, vectors in zip(POOLINGS, expected, strict=True):
        for fused in (False, True):
            graph = folder / "graph.onnx"
            onnx.save(build_graph(weights, config, fused=fused, pooling=pooling), graph)
            write_runtime_file(graph, graph.with_suffix(".ort"))
            for path in (graph, graph.with_suffix(".ort")):
                found = open_session(path, 1, "basic").run(["embeddings"], feed)[0]
                yield float(np.abs(found - vectors).max())


def compare(seeds: int) -> None:
    """Print the largest difference from the reference for models of several sizes."""
    sizes = {
        "small": (Size(), LENGTHS),
        "wide": (Size(128, 4, 4, 256, 1000, 512, 16), (1, 7, 64, 300)),
        "deep": (Size(96, 12, 3, 200, 1000, 256, 8), (5, 5, 100, 200)),
    }
    for title, (size, lengths) in sizes.items():
        for name, case in cases(size).items():
            worst: dict[str, float] = {}
            for seed in range(seeds):
                with tempfile.TemporaryDirectory() as scratch:
                    folder = Path(scratch)
                    for variant, changes in write_case(folder, case, seed, lengths).items():
                        expected = np.load(folder / f"{variant}.npy")
                        found = max(errors(folder, changes, expected))
                        worst[variant] = max(found, worst.get(variant, 0.0))
            shown = ", ".join(f"{variant} {error:.1e}" for variant, error in worst.items())
            print(f"{title:6} {name:18} {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR")
    parser.add_argument("--compare", type=int, metavar="SEEDS", help="compare, write nothing")
    options = parser.parse_args()
    if options.compare:
        compare(options.compare)
    else:
        write_fixtures(options.out)


if __name__ == "__main__":
    main()
