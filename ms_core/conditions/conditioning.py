"""Specs to what the UNet is conditioned on, for both guidance halves; unconditional rows come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from ms_core.conditions.references import preview
from ms_core.conditions.vision import ReferenceReader
from ms_core.device.residency import Residency
from ms_core.errors import PhraseNotFoundError
from ms_core.method.adapter import MSAdapter
from ms_core.method.attention_data import AttentionData, AutoLayoutMaps, RegionWords, SubjectBatch
from ms_core.method.boxes import fit_boxes
from ms_core.method.masks import Placement, place_warnings
from ms_core.spec import GenerationSpec, GenerationWarning, Subject
from ms_core.spec.resolve import ResolvedSpec
from ms_core.spec.tokens import TextTokenizer, TokenSpan
from ms_core.spec.warnings import quote, truncation_warnings


@dataclass(frozen=True, slots=True)
class Conditioning:
    """All inputs of the UNet beside latents and timestep.

    Attributes:
        prompt_embeds: text of the unconditional rows, then of the conditional ones.
        pooled_prompt_embeds: in the same order.
        time_ids: SDXL's size conditioning: original size, crop corner, target size, each vertical before horizontal.
        attention_data: subjects and masks of the conditional rows.
        guided: positions of the specs that have an unconditional row, in its order.
    """

    prompt_embeds: Float[Tensor, "rows 77 cross_dim"]
    pooled_prompt_embeds: Float[Tensor, "rows pooled_dim"]
    time_ids: Float[Tensor, "rows 6"]
    attention_data: AttentionData
    guided: Int[Tensor, " guided"]


@dataclass(frozen=True, slots=True)
class Conditioner:
    """The models that read text and reference pictures.

    Attributes:
        components: a ``StableDiffusionXLPipeline``, for its text encoders and tokenizers.
        reader: of reference pictures, with the image encoder.
        adapter: for its resampler.
        residency: brings them to their device.
        tokenizer: the first of the components', for where texts are cut off.
    """

    components: Any
    reader: ReferenceReader
    adapter: MSAdapter
    residency: Residency
    tokenizer: TextTokenizer

    @property
    def device(self) -> torch.device:
        """Where all of them work."""
        return self.residency.device

    def phrase_spans(self, spec: GenerationSpec) -> tuple[TokenSpan | None, ...]:
        """Token span of each subject's phrase in the prompt; ``None`` where it is absent or cut off."""
        return self.tokenizer.spans(spec.prompt, spec.phrase_spans)

    def find_warnings(self, resolved: ResolvedSpec) -> tuple[GenerationWarning, ...]:
        """What ``resolve`` found, text that is cut off, and subjects that hardly act where they stand."""
        spec = resolved.spec
        warnings = [*resolved.warnings, *truncation_warnings(spec, self.tokenizer)]
        if spec.layout is None:
            factor: int = self.components.vae_scale_factor
            height, width = resolved.height // factor, resolved.width // factor
            warnings.extend(place_warnings(spec.subjects, height, width, spec.num_unet_calls or 1))
        return tuple(warnings)

    def preview(self, subject: Subject) -> Image.Image:
        """The pixels that the image encoder gets of a subject's pictures, one beside the other; RGB."""
        return preview(self.reader.see(subject))

    def encode(self, batch: Sequence[ResolvedSpec]) -> Conditioning:
        """Encode one batch; run it without gradients.

        Raises:
            PhraseNotFoundError: with auto layout, a phrase lies in the part of the prompt that is cut off.
        """
        positions = [index for index, row in enumerate(batch) if row.do_classifier_free_guidance]
        guided = torch.tensor(positions, dtype=torch.int64, device=self.device)
        with self.residency.use("text_encoders"):
            prompt_embeds, pooled_prompt_embeds = self._encode_prompts(batch, guided)
            phrase_embeds = encode_phrases(
                self.components, [subject.phrase for row in batch for subject in row.spec.subjects]
            ).to(self.adapter.dtype)
            words = self._encode_words(batch)
        height, width = batch[0].height, batch[0].width
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=prompt_embeds.dtype, device=self.device)
        scale_factor = self.components.vae_scale_factor
        attention_data = AttentionData(
            subjects=self._encode_subjects(batch, phrase_embeds),
            latents_size=(height // scale_factor, width // scale_factor),
            auto_layout=self._auto_layout(batch),
            words=words,
        )
        return Conditioning(
            prompt_embeds, pooled_prompt_embeds, time_ids.expand(len(prompt_embeds), -1), attention_data, guided
        )

    def _encode_prompts(self, batch: Sequence[ResolvedSpec], guided: Int[Tensor, " guided"]) -> tuple[Tensor, Tensor]:
        embeds, negative_embeds, pooled, negative_pooled = self.components.encode_prompt(
            prompt=[row.spec.prompt for row in batch],
            negative_prompt=[row.negative_prompt for row in batch],
            do_classifier_free_guidance=len(guided) > 0,
            device=self.device,
        )
        if negative_embeds is None:
            return embeds, pooled
        return torch.cat([negative_embeds[guided], embeds]), torch.cat([negative_pooled[guided], pooled])

    def _encode_words(self, batch: Sequence[ResolvedSpec]) -> RegionWords | None:
        """The words that subjects bring for their own cells; what is pooled of them has no place in SDXL and is left."""
        found = [
            (row, position, subject.prompt)
            for row, resolved in enumerate(batch)
            for position, subject in enumerate(resolved.spec.subjects)
            if subject.prompt is not None
        ]
        if not found:
            return None
        rows, positions, words = zip(*found, strict=True)
        embeds = self.components.encode_prompt(
            prompt=list(words), do_classifier_free_guidance=False, device=self.device
        )[0]
        return RegionWords(embeds, rows, positions)

    def _encode_subjects(
        self, batch: Sequence[ResolvedSpec], phrase_embeds: Float[Tensor, "subjects phrase_dim"]
    ) -> SubjectBatch:
        subjects = [subject for row in batch for subject in row.spec.subjects]
        counts = [len(row.spec.subjects) for row in batch]
        boxes = torch.tensor([_box_or_zeros(subject) for subject in subjects], device=self.device)
        grounded = torch.tensor([row.spec.grounding for row in batch for _ in row.spec.subjects], device=self.device)
        tokens = self._subject_tokens(subjects, phrase_embeds, boxes, grounded, batch[0].width / batch[0].height)
        scales = [torch.tensor(row.subject_scales, device=self.device) for row in batch]
        placement = Placement.from_rows([row.spec.subjects for row in batch], self.device)
        pictured = torch.tensor([bool(subject.images) for subject in subjects], device=self.device)
        return SubjectBatch.from_rows(
            tokens.split_with_sizes(counts),
            boxes.split_with_sizes(counts),
            scales,
            placement,
            None if all(subject.images for subject in subjects) else pictured.split_with_sizes(counts),
        )

    def _subject_tokens(  # noqa: PLR0913 - what tokens are made of
        self,
        subjects: Sequence[Subject],
        phrase_embeds: Float[Tensor, "subjects phrase_dim"],
        boxes: Float[Tensor, "subjects 4"],
        grounded: Bool[Tensor, " subjects"],
        picture_aspect: float,
    ) -> Float[Tensor, "subjects queries dim"]:
        """The mean of each subject's tokens over its pictures, each with the subject's phrase and its place in the
        box; zeros for one without a picture."""
        seen = [picture for subject in subjects for picture in self.reader.see(subject)]
        counts = [len(subject.images) for subject in subjects]
        if not seen:
            config = self.adapter.resampler.config
            return phrase_embeds.new_zeros(len(subjects), config.num_queries, config.output_dim)
        features = self.reader.features(seen).to(self.adapter.dtype)
        owners = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)], device=self.device)
        own_boxes = boxes[owners]
        if self.reader.keeps_proportions:
            aspects = torch.tensor([picture.aspect for picture in seen], device=self.device)
            own_boxes = fit_boxes(own_boxes, aspects, picture_aspect)
        with self.residency.use("resampler"):
            tokens = self.adapter.resampler(features, phrase_embeds[owners], own_boxes, grounded[owners])
        none = tokens.new_zeros(tokens.shape[1:])
        return torch.stack(
            [of_pictures.mean(dim=0) if len(of_pictures) else none for of_pictures in tokens.split_with_sizes(counts)]
        )

    def _auto_layout(self, batch: Sequence[ResolvedSpec]) -> AutoLayoutMaps | None:
        layouts = [row.spec.layout for row in batch]
        if all(layout is None for layout in layouts):
            return None
        spans = [self.phrase_spans(row.spec) for row in batch]
        for row, row_spans in zip(batch, spans, strict=True):
            if row.spec.layout is not None:
                _require_spans(row.spec, row_spans)
        return AutoLayoutMaps(layouts, spans, self.device)


def encode_phrases(components: Any, phrases: Sequence[str]) -> Float[Tensor, "phrases phrase_dim"]:
    """Pooled output of the first text encoder, before any projection; each phrase alone."""
    tokenizer = components.tokenizer
    inputs = tokenizer(
        list(phrases), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return components.text_encoder(inputs.input_ids.to(components.text_encoder.device)).pooler_output


def _require_spans(spec: GenerationSpec, spans: Sequence[TokenSpan | None]) -> None:
    for index, (subject, span) in enumerate(zip(spec.subjects, spans, strict=True)):
        if span is None:
            raise PhraseNotFoundError(
                f"The auto layout needs {quote(subject.phrase)}, but the prompt is too long and that part is cut "
                "off; move it forward, or give boxes instead.",
                f"/subjects/{index}/phrase",
            )


def _box_or_zeros(subject: Subject) -> tuple[float, float, float, float]:
    """The box as the resampler sees it: four zeros without a layout."""
    return (0.0, 0.0, 0.0, 0.0) if subject.place is None else subject.place.as_tuple()
