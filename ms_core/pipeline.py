"""The pipeline: specs in, pictures out, one event per step.

::

    pipeline = MSDiffusionPipeline.from_pretrained("models/mini")
    for event in pipeline.generate(spec):
        ...                                  # Progress, and at the end Finished
    images = pipeline.run(spec)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ms_core.adapter import MSAdapter
from ms_core.attention_data import ATTENTION_DATA
from ms_core.batch import ResolvedSpec, resolve_batch
from ms_core.checkpoint import check_encoders, load_adapter
from ms_core.conditioning import Conditioner, Conditioning, find_warnings
from ms_core.config import ModelCard
from ms_core.devices import device_errors
from ms_core.events import Event, Finished, Generation, Progress
from ms_core.latents import decode_latents
from ms_core.loading import IMAGE_ENCODER, load_image_encoder, load_sdxl
from ms_core.references import ReferencePreprocessor
from ms_core.schedulers import make_scheduler
from ms_core.spec import GenerationSpec


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What a model directory holds, loaded.

    Attributes:
        components: a ``StableDiffusionXLPipeline``: UNet, VAE, text encoders, tokenizers, scheduler config.
        image_encoder: a ``CLIPVisionModelWithProjection``.
        preprocessor: of reference pictures.
        adapter: not installed yet.
        card: numbers and limits.
        directory: where LoRAs, ControlNets and embeddings are looked for; ``None``: there are none.
    """

    components: Any
    image_encoder: Any
    preprocessor: ReferencePreprocessor
    adapter: MSAdapter
    card: ModelCard
    directory: Path | None = None

    @classmethod
    def load(cls, directory: Path, dtype: torch.dtype) -> ModelParts:
        """Load a model directory onto the CPU; errors as ``MSDiffusionPipeline.from_pretrained``."""
        card = ModelCard.load(directory)
        components = load_sdxl(directory, dtype)
        return cls(
            components=components,
            image_encoder=load_image_encoder(directory / IMAGE_ENCODER, dtype),
            preprocessor=ReferencePreprocessor.load(directory / IMAGE_ENCODER, card.reference),
            adapter=load_adapter(directory, components.unet, card).to(dtype),
            card=card,
            directory=directory,
        )


@dataclass(slots=True)
class _Run:
    """State of one batch between its steps.

    Attributes:
        guidance_scales: of the specs that have an unconditional row.
    """

    conditioning: Conditioning
    scheduler: Any
    latents: Float[Tensor, "specs c h w"]
    guidance_scales: Float[Tensor, "guided 1 1 1"]


class MSDiffusionPipeline:
    """A loaded model, ready for requests; it keeps nothing of a request.

    The adapter stays installed in ``unet``. All data of a call lives in the iterator that ``generate`` returns, so ending
    one early, or running several in turn, leaves nothing behind. ``adapter.uninstall(unet)`` gives plain SDXL back.

    Attributes:
        card: the model's numbers and limits.
        components: the ``StableDiffusionXLPipeline`` this one stands on.
        adapter: installed in ``unet``.
        conditioner: reads text and reference pictures.
        device: of all models.
    """

    def __init__(self, parts: ModelParts, device: torch.device | str = "cpu") -> None:
        """Move the parts to ``device`` and install the adapter.

        Raises:
            WrongImageEncoderError, CheckpointError: the encoders do not fit the adapter.
        """
        check_encoders(parts.adapter.resampler.config, parts.image_encoder, parts.components.text_encoder)
        self.device = torch.device(device)
        self.card = parts.card
        with device_errors():
            self.components = parts.components.to(self.device)
            image_encoder = parts.image_encoder.to(self.device)
            self.adapter = parts.adapter.to(self.device)
        self.conditioner = Conditioner(self.components, image_encoder, parts.preprocessor, self.adapter, self.device)
        self.adapter.install(self.unet)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> MSDiffusionPipeline:
        """Load a model directory: the diffusers layout, ``image_encoder/``, ``ms_adapter.safetensors`` and its card.

        Args:
            directory: of the model.
            device: ``None`` takes the first CUDA device, or the CPU.
            dtype: ``None`` takes float16 on CUDA, float32 on the CPU.

        Raises:
            ModelNotFoundError: the directory or a file of it is missing.
            CheckpointError: a file cannot be used, or does not fit the others.
            DeviceOutOfMemoryError: the device is too small.
        """
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype is None:
            dtype = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        return cls(ModelParts.load(Path(directory), dtype), device)

    @property
    def unet(self) -> Any:
        """The ``UNet2DConditionModel``."""
        return self.components.unet

    def generate(self, specs: GenerationSpec | Sequence[GenerationSpec]) -> Iterator[Event]:
        """Make one picture for each spec, all in one UNet batch.

        Prompts, subjects, boxes, scales, seeds, guidance, grounding and layouts may differ from spec to spec; size, steps
        and scheduler may not. The batch is checked at once, the work is done while the result is iterated.

        Returns:
            ``Progress`` events, then ``Finished``.

        Raises:
            BatchMismatchError, InvalidInputError: at the call.
            PhraseNotFoundError: while iterating: auto layout, and the phrase is cut off.
            DeviceOutOfMemoryError, DeviceLostError: while iterating.
        """
        batch = resolve_batch([specs] if isinstance(specs, GenerationSpec) else specs, self.card)
        return self._events(batch)

    def run(self, specs: GenerationSpec | Sequence[GenerationSpec]) -> list[Generation]:
        """``generate`` to its end; errors as there."""
        [finished] = [event for event in self.generate(specs) if isinstance(event, Finished)]
        return list(finished.generations)

    def _events(self, batch: Sequence[ResolvedSpec]) -> Generator[Event]:
        steps = batch[0].num_inference_steps
        with device_errors():
            yield Progress("encode", 0, steps)
            warnings = tuple(find_warnings(row, self.components, self.card) for row in batch)
            run = self._prepare(batch)
            yield Progress("denoise", 0, steps, warnings)
            for step, timestep in enumerate(run.scheduler.timesteps):
                run.latents = self._denoise(run, timestep)
                yield Progress("denoise", step + 1, steps, warnings)
            yield Progress("decode", steps, steps, warnings)
            latents = run.latents.split_with_sizes([1] * len(batch))
            images = [decode_latents(self.components, row) for row in latents]
            yield Finished(
                tuple(
                    Generation(image, row.cpu(), resolved.spec.seed, found)
                    for image, row, resolved, found in zip(images, latents, batch, warnings, strict=True)
                )
            )

    @torch.no_grad()
    def _prepare(self, batch: Sequence[ResolvedSpec]) -> _Run:
        conditioning = self.conditioner.encode(batch)
        scheduler = make_scheduler(batch[0].scheduler, self.components.scheduler.config, batch[0].timestep_spacing)
        scheduler.set_timesteps(batch[0].num_inference_steps, device=self.device)
        shape = (1, self.unet.config.in_channels, *conditioning.attention_data.latents_size)
        noise = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(row.spec.seed)) for row in batch]
        latents = torch.cat(noise).to(self.device) * scheduler.init_noise_sigma
        scales = [row.guidance_scale for row in batch if row.do_classifier_free_guidance]
        guidance_scales = torch.tensor(scales, device=self.device).view(-1, 1, 1, 1)
        return _Run(conditioning, scheduler, latents, guidance_scales)

    @torch.no_grad()
    def _denoise(self, run: _Run, timestep: Tensor) -> Float[Tensor, "specs c h w"]:
        """Latents after one step; one UNet call with the unconditional rows first."""
        conditioning, guided = run.conditioning, run.conditioning.guided
        scaled = run.scheduler.scale_model_input(run.latents, timestep)
        prediction = self.unet(
            torch.cat([scaled[guided], scaled]).to(self.unet.dtype),
            timestep,
            encoder_hidden_states=conditioning.prompt_embeds,
            added_cond_kwargs={
                "text_embeds": conditioning.pooled_prompt_embeds,
                "time_ids": conditioning.time_ids,
            },
            cross_attention_kwargs={ATTENTION_DATA: conditioning.attention_data},
            return_dict=False,
        )[0].float()
        unconditional, prediction = prediction.tensor_split([len(run.guidance_scales)])
        prediction[guided] = unconditional + run.guidance_scales * (prediction[guided] - unconditional)
        return run.scheduler.step(prediction, timestep, run.latents, return_dict=False)[0]
