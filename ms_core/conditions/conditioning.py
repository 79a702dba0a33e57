"""Specs to what the UNet is conditioned on, for both guidance halves; unconditional rows come first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from ms_core.conditions.phrases import TokenSpan, cut_text, token_spans
from ms_core.conditions.references import preview
from ms_core.conditions.vision import ReferenceReader
from ms_core.config import ModelCard
from ms_core.device.residency import Residency
from ms_core.errors import PhraseNotFoundError
from ms_core.method.adapter import MSAdapter
from ms_core.method.attention_data import AttentionData, AutoLayoutMaps, SubjectBatch
from ms_core.method.boxes import fit_boxes
from ms_core.method.masks import Placement, place_warnings
from ms_core.spec import GenerationSpec, GenerationWarning, Subject
from ms_core.spec.resolve import ResolvedSpec

MAX_QUOTED_CHARACTERS = 500

# "(red:1.3)", but not "(at 10:30)".
_WEIGHTED = re.compile(r"\([^()]+?(?:(?<!\d):\s*[+-]?\d+|:\s*[+-]?\d*\.\d+)\s*\)")
# Areas, in those of a usual picture, and how much wider or taller than all usual ones a picture may be.
_USUAL_AREAS = (0.7, 1.5)
_SHAPE_TOLERANCE = 1.05


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
    """

    components: Any
    reader: ReferenceReader
    adapter: MSAdapter
    residency: Residency

    @property
    def device(self) -> torch.device:
        """Where all of them work."""
        return self.residency.device

    def phrase_spans(self, spec: GenerationSpec) -> tuple[TokenSpan | None, ...]:
        """Token span of each subject's phrase in the prompt; ``None`` where it is absent or cut off."""
        return token_spans(self.components.tokenizer, spec.prompt, spec.phrase_spans)

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
            phrase_embeds = self._phrase_embeds([subject.phrase for row in batch for subject in row.spec.subjects])
        height, width = batch[0].height, batch[0].width
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=prompt_embeds.dtype, device=self.device)
        scale_factor = self.components.vae_scale_factor
        attention_data = AttentionData(
            subjects=self._encode_subjects(batch, phrase_embeds),
            latents_size=(height // scale_factor, width // scale_factor),
            auto_layout=self._auto_layout(batch),
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
        return SubjectBatch.from_rows(
            tokens.split_with_sizes(counts), boxes.split_with_sizes(counts), scales, placement
        )

    def _subject_tokens(  # noqa: PLR0913 - what tokens are made of
        self,
        subjects: Sequence[Subject],
        phrase_embeds: Float[Tensor, "subjects phrase_dim"],
        boxes: Float[Tensor, "subjects 4"],
        grounded: Bool[Tensor, " subjects"],
        picture_aspect: float,
    ) -> Float[Tensor, "subjects queries dim"]:
        """The mean of each subject's tokens over its pictures, each with the subject's phrase and its place in the box."""
        seen = [picture for subject in subjects for picture in self.reader.see(subject)]
        features = self.reader.features(seen).to(self.adapter.dtype)
        counts = [len(subject.images) for subject in subjects]
        owners = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)], device=self.device)
        places = boxes[owners]
        if self.reader.keeps_proportions:
            aspects = torch.tensor([picture.aspect for picture in seen], device=self.device)
            places = fit_boxes(places, aspects, picture_aspect)
        with self.residency.use("resampler"):
            tokens = self.adapter.resampler(features, phrase_embeds[owners], places, grounded[owners])
        return torch.stack([of_pictures.mean(dim=0) for of_pictures in tokens.split_with_sizes(counts)])

    def _phrase_embeds(self, phrases: Sequence[str]) -> Float[Tensor, "subjects phrase_dim"]:
        """Pooled output of the first text encoder, before any projection; each phrase alone."""
        tokenizer = self.components.tokenizer
        inputs = tokenizer(
            list(phrases),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        pooled = self.components.text_encoder(inputs.input_ids.to(self.device)).pooler_output
        return pooled.to(self.adapter.dtype)

    def _auto_layout(self, batch: Sequence[ResolvedSpec]) -> AutoLayoutMaps | None:
        layouts = [row.spec.layout for row in batch]
        if all(layout is None for layout in layouts):
            return None
        spans = [self.phrase_spans(row.spec) for row in batch]
        for row, row_spans in zip(batch, spans, strict=True):
            if row.spec.layout is not None:
                _require_spans(row.spec, row_spans)
        return AutoLayoutMaps(layouts, spans, self.device)


def find_warnings(resolved: ResolvedSpec, components: Any, card: ModelCard) -> tuple[GenerationWarning, ...]:
    """What the user should know of one spec: text that is cut off or read otherwise than meant, phrases that are missing,
    too many subjects, a size far from those of the training, and subjects that hardly act where they stand.
    """
    spec = resolved.spec
    texts = {"/prompt": spec.prompt, "/negative_prompt": resolved.negative_prompt}
    warnings = [*_weight_warnings(texts), *_size_warnings(resolved, card)]
    texts |= {f"/subjects/{index}/phrase": subject.phrase for index, subject in enumerate(spec.subjects)}
    for pointer, text in texts.items():
        cut = cut_text(components.tokenizer, text)
        if cut:
            warnings.append(
                GenerationWarning("text_truncated", f"The model does not see the end: {_quote(cut)}", pointer)
            )
    for index, (subject, span) in enumerate(zip(spec.subjects, spec.phrase_spans, strict=True)):
        if span is None:
            detail = (
                f"The prompt does not say {_quote(subject.phrase)}; the picture follows the words better if it does."
            )
            warnings.append(GenerationWarning("phrase_not_found", detail, f"/subjects/{index}/phrase"))
    if len(spec.subjects) > card.max_subjects:
        detail = f"This model was trained with at most {card.max_subjects} subjects; more may mix."
        warnings.append(GenerationWarning("too_many_subjects", detail, "/subjects"))
    if spec.layout is None:
        cells = (side // components.vae_scale_factor for side in (resolved.height, resolved.width))
        warnings.extend(place_warnings(spec.subjects, *cells))
    return tuple(warnings)


def _weight_warnings(texts: Mapping[str, str]) -> list[GenerationWarning]:
    """Prompt weights, as other programs have them; here the 77 tokens of the training are read as they stand."""
    found = {pointer: _WEIGHTED.search(text) for pointer, text in texts.items()}
    return [
        GenerationWarning(
            "prompt_weights_ignored",
            f"Prompt weights are not applied: brackets and number of {_quote(match[0])} are read as plain text; leave them "
            "out.",
            pointer,
        )
        for pointer, match in found.items()
        if match is not None
    ]


def _size_warnings(resolved: ResolvedSpec, card: ModelCard) -> list[GenerationWarning]:
    """A picture whose area or shape is far from all usual ones of the model."""
    if not card.sizes:
        return []
    area, shape = resolved.height * resolved.width, resolved.width / resolved.height
    shapes = [width / height for height, width in card.sizes]
    low, high = _USUAL_AREAS
    has_usual_area = any(low <= area / (height * width) <= high for height, width in card.sizes)
    if has_usual_area and min(shapes) / _SHAPE_TOLERANCE <= shape <= max(shapes) * _SHAPE_TOLERANCE:
        return []
    height, width = min(card.sizes, key=lambda size: abs(math.log(size[1] / size[0] / shape)))
    detail = (
        f"{resolved.width} x {resolved.height} pixels are far from what this model was trained on; expect repeated or "
        f"malformed things. Of this shape it draws best at {width} x {height}."
    )
    return [GenerationWarning("unusual_size", detail, "/height")]


def layout_warnings(spec: GenerationSpec, num_steps: int) -> tuple[GenerationWarning, ...]:
    """Auto layout whose places would act only after the last of ``num_steps`` UNet calls."""
    if spec.layout is None or spec.layout.start_step <= num_steps:
        return ()
    detail = (
        f"The places that are found act from step {spec.layout.start_step} on, and this picture has only {num_steps} steps, so "
        "they never do; choose a smaller start_step or more steps."
    )
    return (GenerationWarning("layout_too_late", detail, "/layout/start_step"),)


def _require_spans(spec: GenerationSpec, spans: Sequence[TokenSpan | None]) -> None:
    for index, (subject, span) in enumerate(zip(spec.subjects, spans, strict=True)):
        if span is None:
            raise PhraseNotFoundError(
                f"Auto layout needs {_quote(subject.phrase)}, but it lies in the end of the prompt that the model does not "
                "see; name it earlier, or give boxes instead.",
                f"/subjects/{index}/phrase",
            )


def _box_or_zeros(subject: Subject) -> tuple[float, float, float, float]:
    """The box as the resampler sees it: four zeros without a layout."""
    return (0.0, 0.0, 0.0, 0.0) if subject.box is None else subject.box.as_tuple()


def _quote(text: str) -> str:
    """``text`` in quotation marks, shortened."""
    more = len(text) - MAX_QUOTED_CHARACTERS
    return f'"{text}"' if more <= 0 else f'"{text[:MAX_QUOTED_CHARACTERS]}" and {more} more characters.'
