"""Families of encoders: how their checkpoints name things, and which parts they have.

A family is data; ``encoder_graph.py`` has the parts. Tensors are named as in the published
checkpoints, without a prefix such as ``bert.``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

from ..core.errors import ConversionError

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """How a layer's attention knows of positions, and how far it looks."""

    rotary_base: float | None = None
    """Of rotary position embeddings (Su et al., RoFormer, 2021); ``None`` is none."""
    window: int | None = None
    """Tokens to either side that are seen; ``None`` is all of them."""


def _sees_all(config: Config, layers: int) -> tuple[Reach, ...]:
    del config
    return tuple(repeat(Reach(), layers))


_BERT_KEYS = {
    "hidden": ("hidden_size",),
    "heads": ("num_attention_heads",),
    "layers": ("num_hidden_layers",),
    "wide": ("intermediate_size",),
    "epsilon": ("layer_norm_eps",),
    "activation": ("hidden_act",),
    "positions": ("max_position_embeddings",),
}
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of checkpoint; the defaults are those of BERT (Devlin et al., 2018)."""

    title: str
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _BERT_KEYS)
    """A size or setting, and the keys of ``config.json`` that may hold it."""
    settled: Mapping[str, Any] = field(
        default_factory=lambda: {"position_embedding_type": "absolute", "is_decoder": False}
    )
    """Keys of which one value is supported; a config without them means that value."""
    activations: Mapping[str, str] = field(default_factory=lambda: _ACTIVATIONS)
    epsilon: float | None = None
    """Of layer norm, where the config does not say it."""
    reach: Callable[[Config, int], tuple[Reach, ...]] = _sees_all
    """What each layer sees, from the config and the number of layers."""
    position_limit: str | None = None
    """Key of a further limit on the length, where the config scales rotary positions."""

    words: str = "embeddings.word_embeddings"
    positions: str | None = "embeddings.position_embeddings"
    """The table of learned positions."""
    skips_padding_positions: bool = False
    """Whether the first token has the position after ``pad_token_id``."""
    types: str | None = "embeddings.token_type_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"
    layer: str = "encoder.layer.{}."
    projections: tuple[str, ...] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )
    """Three layers, or one that holds them below one another."""
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    widening: tuple[str, ...] = ("intermediate.dense",)
    """Gated: what is activated, then what it is multiplied with, or both below one another."""
    gated: bool = False
    """Gated linear units (Shazeer, GLU variants improve transformer, 2020)."""
    narrowing: str = "output.dense"
    output_norm: str = "output.LayerNorm"
    norm_first: bool = False
    """Norms stand before attention and feed-forward part; the first may be left out."""
    final_norm: str | None = None
    bias_optional: bool = False
    """Whether a layer without a bias in the checkpoint has none."""


def _rotary_base(parameters: Config, where: str) -> float:
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise ConversionError(
            f"{where}: rope_type={kind!r} is not supported by the graph builder "
            "(supported: 'default'); try --exporter torch"
        )
    return float(parameters["rope_theta"])


def _nomic_reach(config: Config, layers: int) -> tuple[Reach, ...]:
    if config.get("rope_parameters") is not None:
        base = _rotary_base(config["rope_parameters"], "rope_parameters")
    else:
        base = float(config.get("rotary_emb_base", 10_000.0))
    return tuple(repeat(Reach(base), layers))


def _modernbert_reach(config: Config, layers: int) -> tuple[Reach, ...]:
    """Local layers see half of ``local_attention`` to either side."""
    every = config.get("global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [
        "sliding_attention" if number % every else "full_attention" for number in range(layers)
    ]
    if len(kinds) != layers:
        raise ConversionError(
            f"layer_types names {len(kinds)} layers, num_hidden_layers says {layers}"
        )
    if config.get("rope_parameters") is not None:
        bases = {
            kind: _rotary_base(config["rope_parameters"][kind], f"rope_parameters.{kind}")
            for kind in sorted(set(kinds))
        }
    else:
        everywhere = float(config.get("global_rope_theta", 160_000.0))
        local = config.get("local_rope_theta", 10_000.0)
        bases = {
            "full_attention": everywhere,
            "sliding_attention": everywhere if local is None else float(local),
        }
    windows = {"full_attention": None, "sliding_attention": config.get("local_attention", 128) // 2}
    return tuple(Reach(bases[kind], windows[kind]) for kind in kinds)


_BERT = Family(title="BERT")
_ROBERTA = replace(_BERT, title="RoBERTa", skips_padding_positions=True)

FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": replace(_ROBERTA, title="XLM-RoBERTa"),
    # Sanh et al., DistilBERT, 2019.
    "distilbert": Family(
        title="DistilBERT",
        keys={
            "hidden": ("dim",),
            "heads": ("n_heads",),
            "layers": ("n_layers",),
            "wide": ("hidden_dim",),
            "activation": ("activation",),
            "positions": ("max_position_embeddings",),
        },
        settled={},
        epsilon=1e-12,
        types=None,
        layer="transformer.layer.{}.",
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        widening=("ffn.lin1",),
        narrowing="ffn.lin2",
        output_norm="output_layer_norm",
    ),
    # Nussbaum et al., Nomic Embed, 2024. The first key is that of the published configs, the
    # second that of configs which transformers writes.
    "nomic_bert": Family(
        title="NomicBERT",
        keys={
            "hidden": ("n_embd", "hidden_size"),
            "heads": ("n_head", "num_attention_heads"),
            "layers": ("n_layer", "num_hidden_layers"),
            "wide": ("n_inner", "intermediate_size"),
            "epsilon": ("layer_norm_epsilon", "layer_norm_eps"),
            "activation": ("activation_function", "hidden_act"),
            "positions": ("n_positions", "max_position_embeddings"),
        },
        settled={
            "causal": False,
            "parallel_block": False,
            "prenorm": False,
            "rotary_emb_fraction": 1.0,
            "rotary_emb_interleaved": False,
            "rotary_emb_scale_base": None,
            "use_rms_norm": False,
        },
        activations={"swiglu": "silu", "geglu": "gelu", "silu": "silu"},
        reach=_nomic_reach,
        position_limit="max_trained_positions",
        positions=None,
        embedding_norm="emb_ln",
        layer="encoder.layers.{}.",
        projections=("attn.Wqkv",),
        attention_output="attn.out_proj",
        attention_norm="norm1",
        widening=("mlp.fc12", "mlp.fc11"),
        gated=True,
        narrowing="mlp.fc2",
        output_norm="norm2",
        bias_optional=True,
    ),
    # Warner et al., ModernBERT, 2024.
    "modernbert": Family(
        title="ModernBERT",
        keys=_BERT_KEYS | {"epsilon": ("norm_eps",), "activation": ("hidden_activation",)},
        settled={"rope_scaling": None},
        reach=_modernbert_reach,
        words="embeddings.tok_embeddings",
        positions=None,
        types=None,
        embedding_norm="embeddings.norm",
        layer="layers.{}.",
        projections=("attn.Wqkv",),
        attention_output="attn.Wo",
        attention_norm="attn_norm",
        widening=("mlp.Wi",),
        gated=True,
        narrowing="mlp.Wo",
        output_norm="mlp_norm",
        norm_first=True,
        final_norm="final_norm",
        bias_optional=True,
    ),
}
"""By ``model_type`` of ``config.json``."""
