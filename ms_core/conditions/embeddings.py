"""Textual inversion: files ``embeddings/<word>.safetensors`` teach the text encoders a word.

A file holds vectors for both encoders, one or more. Each vector becomes its own token, written as a character that no
one types, and the tokenizers' normalisation turns the word into these characters. So a prompt stays as it is, and the
tokenizers' own offsets lead from each vector's token back to the word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - safetensors leaves PathLike's parameter open
)
from tokenizers import AddedToken, Regex, normalizers
from torch import Tensor

from ms_core.config import EMBEDDINGS
from ms_core.errors import CheckpointError
from ms_core.model_dir.inspection.headers import DamageError, TensorHeader, read_header
from ms_core.model_dir.loading import quiet

# The tensors of the first and of the second text encoder, in the spellings of the trainers.
_KEYS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
_ENCODERS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
# A private-use plane: its characters mean nothing to anyone else.
_FIRST_CHARACTER = 0x100000
# The end-of-text id of CLIP's first configs. With it transformers takes the highest id for the end of the text, which
# any added token is.
_OLD_END_ID = 2


@dataclass(frozen=True, slots=True)
class Embedding:
    """One word, and what it stands for.

    Attributes:
        word: the file's name.
        vectors: for the first and the second text encoder, as many for both: (vectors, width).
    """

    word: str
    vectors: tuple[Tensor, Tensor]


def load_embeddings(directory: Path, components: Any) -> tuple[str, ...]:
    """Teach a freshly loaded model all its embeddings; returns their words.

    Args:
        directory: of the model.
        components: a ``StableDiffusionXLPipeline``, on the CPU; without embeddings it stays untouched.

    Raises:
        CheckpointError: a file is broken or was made for another base.
    """
    widths = tuple(getattr(components, encoder).config.hidden_size for _, encoder in _ENCODERS)
    paths = sorted((directory / EMBEDDINGS).glob("*.safetensors"))
    embeddings = [_read(path, widths) for path in paths]
    if embeddings:
        for index, (tokenizer, encoder) in enumerate(_ENCODERS):
            rows = [embedding.vectors[index] for embedding in embeddings]
            words = [embedding.word for embedding in embeddings]
            _teach(getattr(components, tokenizer), getattr(components, encoder), words, rows)
    return tuple(embedding.word for embedding in embeddings)


def _read(path: Path, widths: Sequence[int]) -> Embedding:
    name = f"{EMBEDDINGS}/{path.name}"
    try:
        header = read_header(path)
    except DamageError as error:
        raise CheckpointError(f"{name} {error}; fetch it again, or remove it.") from error
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read ({error.strerror}); fix it, or remove it.") from error
    keys = next((keys for keys in _KEYS if all(key in header for key in keys)), None)
    if keys is None:
        raise CheckpointError(
            f"{name} is not an embedding for SDXL, which has the tensors clip_l and clip_g; it contains "
            f"{_describe(header)}. "
            "Remove it."
        )
    for key, width in zip(keys, widths, strict=True):
        if header[key].shape[-1:] != (width,) or len(header[key].shape) > 2:
            raise CheckpointError(
                f"{name} was made for another base: its {key} has the shape {header[key].shape}, the text encoder's "
                f"vectors are {width} wide. Remove it."
            )
    tensors = load_file(path)
    first, second = (tensors[key].reshape(-1, width) for key, width in zip(keys, widths, strict=True))
    if len(first) != len(second) or not len(first):
        raise CheckpointError(
            f"{name} has {len(first)} and {len(second)} vectors for the two text encoders. Remove it."
        )
    return Embedding(path.stem, (first, second))


def _teach(tokenizer: Any, encoder: Any, words: Sequence[str], rows: Sequence[Tensor]) -> None:
    """Give one tokenizer the words, and its encoder the vectors: one (vectors, width) tensor for each word."""
    count = sum(len(vectors) for vectors in rows)
    characters = [chr(_FIRST_CHARACTER + index) for index in range(count)]
    tokenizer.add_tokens([AddedToken(character, normalized=True, special=False) for character in characters])
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(characters))
    _add_rows(encoder, ids, torch.cat(list(rows)))
    _correct_end(encoder, tokenizer.eos_token_id)
    replacements: dict[str, str] = {}
    normalizer = tokenizer.backend_tokenizer.normalizer
    for word, vectors in zip(words, rows, strict=True):
        # As the prompt is by then: composed and in lower case.
        replacements[normalizer.normalize_str(word)] = "".join(characters[: len(vectors)])
        characters = characters[len(vectors) :]
    if len(replacements) < len(words):
        raise CheckpointError(f"Two of the words in {EMBEDDINGS}/ differ only in case; rename one of the files.")
    # The longer words first, so that none is taken for a part of itself.
    steps = [
        normalizers.Replace(Regex(rf"(?<![\w-]){re.escape(word)}(?![\w-])"), tokens)
        for word, tokens in sorted(replacements.items(), key=lambda item: -len(item[0]))
    ]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizer, *steps])


@torch.no_grad()
def _add_rows(encoder: Any, ids: Tensor, vectors: Tensor) -> None:
    with quiet():
        table = encoder.resize_token_embeddings(int(ids.max()) + 1, mean_resizing=False)
    table.weight[ids] = vectors.to(table.weight.dtype)


def _correct_end(encoder: Any, end_id: int) -> None:
    """Let the pooled output be the end-of-text token's again; without added tokens it is the same one."""
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == _OLD_END_ID:
            module.eos_token_id = end_id


def _describe(header: dict[str, TensorHeader]) -> str:
    """The first tensors of a file, with their shapes."""
    shown = [f"{name} {tensor.shape}" for name, tensor in list(header.items())[:3]]
    return ", ".join(shown) or "nothing"
