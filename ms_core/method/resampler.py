"""Grounding resampler: a picture's features, its phrase and its box become a few subject tokens (paper section 3.2)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ms_core.config import ResamplerConfig
from ms_core.method.place_codes import CODE_DIM, cell_centres, encode_places


class FourierEmbedder(nn.Module):
    """Sines and cosines of box coordinates; frequencies ``temperature ** (k / num_frequencies)``, without 2 pi."""

    def __init__(self, num_frequencies: int, temperature: float) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.temperature = temperature

    @property
    def output_dim(self) -> int:
        """Numbers per box: a sine and a cosine of four coordinates at each frequency."""
        return 8 * self.num_frequencies

    def forward(self, boxes: Float[Tensor, "b 4"]) -> Float[Tensor, "b d"]:
        """Features ordered by frequency, then sine before cosine, then coordinate; float32."""
        exponents = torch.arange(self.num_frequencies, device=boxes.device) / self.num_frequencies
        frequencies = self.temperature**exponents
        angles = boxes.float().unsqueeze(1) * frequencies.unsqueeze(-1)
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class PerceiverAttention(nn.Module):
    """Attention of the queries to the picture's features and to themselves."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        inner_dim = config.heads * config.dim_head
        self.heads = config.heads
        self.norm_features = nn.LayerNorm(config.dim)
        self.norm_queries = nn.LayerNorm(config.dim)
        self.to_q = nn.Linear(config.dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(config.dim, 2 * inner_dim, bias=False)
        self.to_out = nn.Linear(inner_dim, config.dim, bias=False)

    def forward(
        self, features: Float[Tensor, "b tokens dim"], queries: Float[Tensor, "b queries dim"]
    ) -> Float[Tensor, "b queries dim"]:
        """What the queries read, without the residual."""
        queries = self.norm_queries(queries)
        context = torch.cat([self.norm_features(features), queries], dim=1)
        key, value = self.to_kv(context).chunk(2, dim=-1)
        query, key, value = (
            tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tensor in (self.to_q(queries), key, value)
        )
        # So few queries gain nothing from a fused kernel, and the plain form trains fast on a CPU too.
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
        read = scores.float().softmax(dim=-1).to(value.dtype) @ value
        return self.to_out(read.transpose(1, 2).flatten(2))


class ResamplerLayer(nn.Module):
    """Attention and feed-forward, each with its residual."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.attention = PerceiverAttention(config)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, config.ff_mult * config.dim, bias=False),
            nn.GELU(),
            nn.Linear(config.ff_mult * config.dim, config.dim, bias=False),
        )

    def forward(
        self, features: Float[Tensor, "b tokens dim"], queries: Float[Tensor, "b queries dim"]
    ) -> Float[Tensor, "b queries dim"]:
        """The queries after this layer."""
        queries = queries + self.attention(features, queries)
        return queries + self.feed_forward(queries)


class PictureParts(nn.Module):
    """Start each query from one part of the picture and that part's position, beside phrase and box.

    The paper's queries have to learn what each of them stands for, which takes millions of pictures; tied to a part from
    the start, they need thousands.
    """

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.side = math.isqrt(config.num_queries)
        patches = config.patches_per_query
        self.to_part = nn.Conv2d(config.feature_dim, config.dim, patches, stride=patches)
        self.to_query = nn.Linear(CODE_DIM, config.dim)
        self.to_token = nn.Linear(CODE_DIM, config.output_dim)

    def parts(self, image_features: Float[Tensor, "b tokens feature_dim"]) -> Float[Tensor, "b num_queries dim"]:
        """The patches of each part, projected together; the class token is left out."""
        patches = image_features[:, 1:]
        side = math.isqrt(patches.shape[1])
        return self.to_part(patches.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)

    def codes(self, boxes: Float[Tensor, "b 4"]) -> Float[Tensor, "b num_queries code"]:
        """Codes of the middles of the parts, laid over the box row by row."""
        middles = cell_centres(self.side, self.side, boxes.device).flatten(0, 1)
        corner, extent = boxes[:, None, :2].float(), (boxes[:, None, 2:] - boxes[:, None, :2]).float()
        return encode_places(corner + middles * extent)


class GroundingResampler(nn.Module):
    """Perceiver resampler whose queries start from phrase and box, or from learned ones without grounding."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.box_embedder = FourierEmbedder(config.num_frequencies, config.temperature)
        grounding_dim = config.phrase_dim + self.box_embedder.output_dim
        self.learned_queries = nn.Parameter(torch.randn(1, config.num_queries, config.dim) / config.dim**0.5)
        self.query_proj = nn.Sequential(
            nn.Linear(grounding_dim, 2 * grounding_dim),
            nn.GELU(),
            nn.Linear(2 * grounding_dim, config.num_queries * config.dim),
        )
        self.query_norm = nn.LayerNorm(config.dim)
        self.proj_in = nn.Linear(config.feature_dim, config.dim)
        self.layers = nn.ModuleList(ResamplerLayer(config) for _ in range(config.depth))
        self.attention_norm = nn.LayerNorm(config.dim)
        self.proj_out = nn.Linear(config.dim, config.output_dim)
        self.norm_out = nn.LayerNorm(config.output_dim)
        self.picture_parts = PictureParts(config) if config.patches_per_query else None

    def forward(
        self,
        image_features: Float[Tensor, "b tokens feature_dim"],
        phrase_embeds: Float[Tensor, "b phrase_dim"],
        boxes: Float[Tensor, "b 4"],
        grounded: Bool[Tensor, " b"] | bool = True,
    ) -> Float[Tensor, "b num_queries output_dim"]:
        """Subject tokens; ``b`` runs over subjects.

        Args:
            image_features: penultimate hidden states of the image encoder, class token included.
            phrase_embeds: pooled output of the first text encoder, one phrase alone.
            boxes: normalised xyxy; four zeros without a layout.
            grounded: whether phrase and box make the queries; if not, the learned ones are used.
        """
        queries = self._queries(phrase_embeds, boxes, grounded)
        features = self.proj_in(image_features)
        if self.picture_parts is None:
            return self._read(features, queries)
        chosen = torch.as_tensor(grounded, device=queries.device).expand(len(queries))[:, None, None]
        codes = self.picture_parts.codes(boxes).to(queries.dtype) * chosen
        queries = queries + self.picture_parts.parts(image_features) + self.picture_parts.to_query(codes)
        return self._read(features, queries) + self.picture_parts.to_token(codes)

    def _read(
        self, features: Float[Tensor, "b tokens dim"], queries: Float[Tensor, "b num_queries dim"]
    ) -> Float[Tensor, "b num_queries output_dim"]:
        for layer in self.layers:
            queries = layer(features, queries)
        return self.norm_out(self.proj_out(self.attention_norm(queries)))

    def _queries(
        self, phrase_embeds: Float[Tensor, "b phrase_dim"], boxes: Float[Tensor, "b 4"], grounded: Tensor | bool
    ) -> Float[Tensor, "b num_queries dim"]:
        grounding = torch.cat([phrase_embeds, self.box_embedder(boxes).to(phrase_embeds.dtype)], dim=-1)
        queries = self.query_norm(self.query_proj(grounding).unflatten(-1, (self.config.num_queries, -1)))
        chosen = torch.as_tensor(grounded, device=queries.device).expand(len(queries))
        return torch.where(chosen[:, None, None], queries, self.learned_queries.to(queries.dtype))
