"""A smaller mini's weights in the sizes of a larger one: more tokens a subject, more channels of the latents.

At first the larger model draws nearly what the smaller one drew, so that nothing it learnt is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ms_lab.mini.recipe import TOKENS_A_SIDE

Weights = Mapping[str, Tensor]


def load_widened(part: nn.Module, trained: Weights) -> None:
    """Load weights into a module of the same kind that may have more tokens or more channels of the latents.

    Args:
        part: of a model that ``build_model`` made; new channels keep what they have or begin with zeros.
        trained: the weights of a part of the same name.

    Raises:
        RuntimeError: a name is missing, or a size differs in another way.
    """
    own = part.state_dict()
    part.load_state_dict({name: _fitted(name, value, own.get(name)) for name, value in trained.items()})


def _fitted(name: str, value: Tensor, own: Tensor | None) -> Tensor:
    if own is None or own.shape == value.shape:
        return value
    for end, widen in _WAYS.items():
        if name.endswith(end):
            return widen(value, own)
    return value


def _finer_queries(value: Tensor, own: Tensor) -> Tensor:
    """What belongs to each query of a square of them, for all queries of the finer square that lie in its place."""
    times = math.isqrt(own.numel() // value.numel())
    side = TOKENS_A_SIDE // times
    square = value.reshape(side, side, -1)
    return square.repeat_interleave(times, 0).repeat_interleave(times, 1).reshape(own.shape)


def _smaller_parts(value: Tensor, own: Tensor) -> Tensor:
    """A convolution over the patches of a part as one over fewer, as if all of them looked alike."""
    return (value.sum((2, 3), keepdim=True) / own[0, 0].numel()).expand(own.shape).contiguous()


def _new_inputs(value: Tensor, own: Tensor) -> Tensor:
    """A convolution that does not see the new channels yet."""
    widened = torch.zeros_like(own)
    widened[:, : value.shape[1]] = value
    return widened


def _new_silent_outputs(value: Tensor, own: Tensor) -> Tensor:
    """New channels that are zero yet."""
    widened = torch.zeros_like(own)
    widened[: len(value)] = value
    return widened


def _new_random_outputs(value: Tensor, own: Tensor) -> Tensor:
    """New channels with the random weights of the larger model: zeros on both sides of the latents would stay zeros."""
    widened = own.clone()
    widened[: len(value)] = value
    return widened


# By the ends of the names, in adapter, UNet and autoencoder.
_WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "learned_queries": _finer_queries,
    "query_proj.2.weight": _finer_queries,
    "query_proj.2.bias": _finer_queries,
    "picture_parts.to_part.weight": _smaller_parts,
    "decoder.0.weight": _new_inputs,
    "conv_in.weight": _new_inputs,
    "conv_out.weight": _new_silent_outputs,
    "conv_out.bias": _new_silent_outputs,
    "encoder.6.weight": _new_random_outputs,
    "encoder.6.bias": _new_random_outputs,
}
