"""What training reads of captions and phrases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ms_lab.mini.recipe import TEXT_TOKENS, MiniModel

# Phrases are short; the text encoder is causal, so padding behind the end of a phrase cannot change its pooled output.
PHRASE_TOKENS = 16


class Text(NamedTuple):
    """What the UNet reads of the captions."""

    prompt_embeds: Float[Tensor, "b 77 d"]
    pooled_prompt_embeds: Float[Tensor, "b p"]


def encode_captions(model: MiniModel, captions: Sequence[str]) -> Text:
    """Penultimate hidden states of both encoders side by side, and the second's pooled output, as SDXL has it."""
    ids = _token_ids(model, captions, TEXT_TOKENS)
    first = model.text_encoder(ids, output_hidden_states=True)
    second = model.text_encoder_2(ids, output_hidden_states=True)
    return Text(torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds)


def encode_phrases(model: MiniModel, phrases: Sequence[str]) -> Float[Tensor, "n d"]:
    """Pooled output of the first encoder, each phrase alone."""
    return model.text_encoder(_token_ids(model, phrases, PHRASE_TOKENS)).pooler_output


def _token_ids(model: MiniModel, texts: Sequence[str], length: int) -> Int[Tensor, "b length"]:
    inputs = model.tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return inputs.input_ids.to(model.text_encoder.device)
