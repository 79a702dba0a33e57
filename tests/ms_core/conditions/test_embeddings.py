"""Textual inversion: words that stand for trained vectors, in both text encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ms_core.conditions.embeddings import load_embeddings
from ms_core.errors import CheckpointError
from ms_core.model_dir.loading import load_sdxl
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import AutoLayout, GenerationSpec, Subject, find_phrases
from ms_core.spec.tokens import TextTokenizer
from tests.support.paths import GOLDEN

WIDTHS = {"clip_l": 24, "clip_g": 40}
# How many vectors each word has.
WORDS = {"My-Style": 3, "zebrafur": 1, "style": 2, "c++ (old)": 2}

Vectors = dict[str, dict[str, torch.Tensor]]


def make_vectors(count: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(count, width, generator=generator) for key, width in WIDTHS.items()}


def write(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> None:
    (folder / "embeddings").mkdir(exist_ok=True)
    save_file(tensors, folder / "embeddings" / f"{name}.safetensors")


@pytest.fixture
def components() -> Any:
    return load_sdxl(GOLDEN / "tiny-sdxl", torch.float32)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """The vectors of each word."""
    return {word: make_vectors(count, seed) for seed, (word, count) in enumerate(WORDS.items())}


@pytest.fixture(scope="module")
def directory(vectors: Vectors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all embeddings; in their files a single vector is without its first dimension."""
    folder = tmp_path_factory.mktemp("words")
    for word, tensors in vectors.items():
        write(folder, word, {key: tensor.squeeze(0) for key, tensor in tensors.items()})
    return folder


@pytest.fixture(scope="module")
def taught(directory: Path) -> Any:
    """A model that knows the words; nothing changes it."""
    components = load_sdxl(GOLDEN / "tiny-sdxl", torch.float32)
    load_embeddings(directory, components)
    return components


def watch_inputs(components: Any, encode: Callable[[], object]) -> list[torch.Tensor]:
    """What the first layers of both text encoders read while ``encode`` runs, without the positions."""
    seen: list[torch.Tensor] = []
    tables = [components.text_encoder.get_input_embeddings(), components.text_encoder_2.get_input_embeddings()]
    handles = [table.register_forward_hook(lambda _, __, output: seen.append(output)) for table in tables]
    encode()
    for handle in handles:
        handle.remove()
    return seen


def test_the_words_are_the_files_names(components: Any, directory: Path) -> None:
    assert sorted(load_embeddings(directory, components)) == sorted(WORDS)


@pytest.mark.parametrize(
    ("prompt", "word", "first"),
    [
        ("a my-style dog", "My-Style", 2),
        ("MY-STYLE", "My-Style", 1),
        ("a dog, zebrafur, and a cat", "zebrafur", 4),
        ("style my-style", "style", 1),
        ("style my-style", "My-Style", 3),
        ("a c++ (old) dog", "c++ (old)", 2),
    ],
)
def test_the_word_becomes_its_vectors_in_both_encoders(taught, vectors, prompt: str, word: str, first: int) -> None:
    inputs = watch_inputs(taught, lambda: taught.encode_prompt(prompt, do_classifier_free_guidance=False))
    for read, expected in zip(inputs, vectors[word].values(), strict=True):
        assert torch.equal(read[0, first : first + len(expected)], expected)


@pytest.mark.parametrize("prompt", ["a hairstyle", "my-styled hair", "a free-style dog", "zebra fur", "restyle"])
def test_a_part_of_another_word_is_not_the_word(taught, prompt: str) -> None:
    assert max(taught.tokenizer(prompt).input_ids) < 599


def test_a_prompt_without_the_word_stays_the_same_to_the_last_bit(components, directory: Path) -> None:
    prompt = "a dog and a cat on the beach"
    before = components.encode_prompt(prompt, negative_prompt="red", do_classifier_free_guidance=True)
    load_embeddings(directory, components)
    after = components.encode_prompt(prompt, negative_prompt="red", do_classifier_free_guidance=True)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_pooled_output_is_the_end_tokens_also_with_the_end_id_of_sdxls_configs(components, directory) -> None:
    # SDXL's configs say 2, and transformers then takes the highest id, which the word's would be.
    first, second = components.text_encoder, components.text_encoder_2.text_model
    first.eos_token_id = second.eos_token_id = 2
    load_embeddings(directory, components)
    ids = components.tokenizer("a zebrafur dog", return_tensors="pt", padding="max_length").input_ids
    end = ids[0].tolist().index(components.tokenizer.eos_token_id)
    for encoder in (first, second):
        output = encoder(ids)
        assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, end])


def test_a_model_directory_brings_its_words(golden_model_directory: Path, directory: Path, reference_picture, tmp_path):
    home = tmp_path / "model"
    home.mkdir()
    for part in (*golden_model_directory.iterdir(), directory / "embeddings"):
        (home / part.name).symlink_to(part)
    taught, plain = (MSDiffusionPipeline.from_pretrained(path, "cpu") for path in (home, golden_model_directory))
    subject = Subject("dog", reference_picture(0), None)
    spec = GenerationSpec("a zebrafur dog", (subject,), height=32, width=32, num_inference_steps=1, layout=AutoLayout())
    other = replace(spec, prompt="a red dog")
    assert taught.card.extras.embeddings == tuple(sorted(WORDS))
    assert not torch.equal(taught.run(spec)[0].latents, plain.run(spec)[0].latents)
    assert torch.equal(taught.run(other)[0].latents, plain.run(other)[0].latents)


def test_without_embeddings_a_model_stays_untouched(components: Any, tmp_path: Path) -> None:
    normalizer = str(components.tokenizer.backend_tokenizer.normalizer)
    assert load_embeddings(tmp_path, components) == ()
    assert str(components.tokenizer.backend_tokenizer.normalizer) == normalizer
    assert len(components.text_encoder.get_input_embeddings().weight) == 599


def test_phrases_behind_a_word_of_several_vectors_are_found(taught) -> None:
    prompt = "a my-style red dog and a cat"
    found = TextTokenizer.of(taught.tokenizer).spans(prompt, find_phrases(prompt, ["red dog", "cat"]))
    ids = taught.tokenizer(prompt).input_ids
    assert [taught.tokenizer.decode(ids[slice(*span)]).strip() for span in found if span] == ["red dog", "cat"]


@pytest.mark.parametrize(("phrase", "span"), [("my-style", (2, 5)), ("My-Style dog", (2, 6)), ("style", (7, 9))])
def test_a_phrase_with_the_word_spans_all_its_vectors(taught, phrase: str, span: tuple[int, int]) -> None:
    prompt = "a my-style dog a \tstyle"
    at = prompt.lower().rindex(phrase.lower())
    assert TextTokenizer.of(taught.tokenizer).spans(prompt, [(at, at + len(phrase))]) == (span,)


def test_vectors_count_towards_the_length(taught) -> None:
    assert TextTokenizer.of(taught.tokenizer).cut_text("the " * 72 + "my-style") == ""
    assert TextTokenizer.of(taught.tokenizer).cut_text("the " * 72 + "my-style cat") == "cat"


def test_a_word_that_is_cut_in_two_is_named_whole(taught) -> None:
    assert TextTokenizer.of(taught.tokenizer).cut_text("the " * 73 + "My-Style cat") == "My-Style cat"
    prompt = "the " * 73 + "my-style"
    assert TextTokenizer.of(taught.tokenizer).spans(prompt, find_phrases(prompt, ["my-style"])) == (None,)


def test_the_trainers_other_names_are_read_too(components: Any, tmp_path: Path) -> None:
    made = make_vectors(2, 0)
    write(tmp_path, "word", {"text_encoders_0": made["clip_l"], "text_encoders_1": made["clip_g"]})
    load_embeddings(tmp_path, components)
    inputs = watch_inputs(components, lambda: components.encode_prompt("word", do_classifier_free_guidance=False))
    assert torch.equal(inputs[1][0, 1:3], made["clip_g"])


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"emb_params": torch.zeros(1, 768)}, "not an embedding for SDXL"),
        ({"clip_l": torch.zeros(1, 24)}, "not an embedding for SDXL"),
        ({"clip_l": torch.zeros(1, 24), "clip_g": torch.zeros(1, 1280)}, "another base: its clip_g"),
        ({"clip_l": torch.zeros(1, 1, 24), "clip_g": torch.zeros(1, 40)}, "another base: its clip_l"),
        ({"clip_l": torch.zeros(2, 24), "clip_g": torch.zeros(3, 40)}, "2 and 3 vectors"),
        ({"clip_l": torch.zeros(0, 24), "clip_g": torch.zeros(0, 40)}, "0 and 0 vectors"),
    ],
)
def test_an_embedding_that_does_not_fit_is_named(components, tmp_path: Path, tensors, sentence: str) -> None:
    write(tmp_path, "word", tensors)
    with pytest.raises(CheckpointError, match=f"embeddings/word.safetensors .*{sentence}"):
        load_embeddings(tmp_path, components)


def test_half_a_file_is_named(components: Any, tmp_path: Path) -> None:
    write(tmp_path, "word", make_vectors(2, 0))
    file = tmp_path / "embeddings" / "word.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"word\.safetensors is cut off"):
        load_embeddings(tmp_path, components)


def test_words_that_differ_only_in_case_are_refused(components: Any, tmp_path: Path) -> None:
    for name in ("word", "Word"):
        write(tmp_path, name, make_vectors(1, 0))
    with pytest.raises(CheckpointError, match="only in case"):
        load_embeddings(tmp_path, components)


def test_a_link_to_nowhere_is_named(components: Any, tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    (tmp_path / "embeddings" / "lost.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="embeddings/lost.safetensors cannot be read"):
        load_embeddings(tmp_path, components)
