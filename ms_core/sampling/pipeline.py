"""The pipeline: specs in, pictures out, one event per step.

::

    pipeline = MSDiffusionPipeline.from_pretrained("models/mini")
    for event in pipeline.generate(spec):
        ...                                  # Progress, and at the end Finished
    images = pipeline.run(spec)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ms_core.conditions.conditioning import Conditioner, Conditioning
from ms_core.conditions.embeddings import load_embeddings
from ms_core.conditions.references import ReferencePreprocessor
from ms_core.conditions.vision import ReferenceReader
from ms_core.config import ModelCard, TokenizerFile
from ms_core.device.devices import default_dtype, device_errors, usable_device
from ms_core.device.memory import choose_mode
from ms_core.device.modes import MemoryMode, MemorySetting
from ms_core.device.residency import Residency
from ms_core.device.threads import iterate_with, threads_of
from ms_core.errors import DeviceOutOfMemoryError, InsufficientMemoryError
from ms_core.method.adapter import MSAdapter
from ms_core.method.attention_data import ATTENTION_DATA
from ms_core.method.checkpoint import check_encoders, load_adapter
from ms_core.model_dir.loading import IMAGE_ENCODER, load_image_encoder, load_sdxl
from ms_core.sampling.controls import ControlNets, Controls, prepare_controls
from ms_core.sampling.draws import Draw
from ms_core.sampling.events import Event, Finished, Generation, Progress
from ms_core.sampling.latents import decode_latents
from ms_core.sampling.loras import LoraLibrary, Loras
from ms_core.sampling.oom_fallback import make_with_retry
from ms_core.sampling.parts import model_parts
from ms_core.sampling.previews import Previews
from ms_core.sampling.progress_bar import with_bar
from ms_core.sampling.redraws import make_with_draws
from ms_core.sampling.schedulers import Schedule, make_scheduler, usable_schedulers
from ms_core.sampling.starts import Starts, encode_pictures, find_starts, starts_of_places
from ms_core.scoring import Scorer
from ms_core.spec import GenerationSpec, GenerationWarning, Subject
from ms_core.spec.picture_notes import is_one_coloured
from ms_core.spec.resolve import ResolvedSpec, resolve_batch
from ms_core.spec.score import SubjectScore
from ms_core.spec.tokens import TextTokenizer

_UNFAMILIAR = (
    "This model's scorer does not know pictures like this one, such as photographs where it was trained on drawings; the "
    "score leaves it out."
)


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
        scorer: scores finished pictures; ``None``: the card has none.
    """

    components: Any
    image_encoder: Any
    preprocessor: ReferencePreprocessor
    adapter: MSAdapter
    card: ModelCard
    directory: Path | None = None
    scorer: Scorer | None = None

    @classmethod
    def load(cls, directory: Path, dtype: torch.dtype) -> ModelParts:
        """Load a model directory onto the CPU; errors as ``MSDiffusionPipeline.from_pretrained``."""
        card = ModelCard.load(directory)
        components = load_sdxl(directory, dtype)
        load_embeddings(directory, components)
        return cls(
            components=components,
            image_encoder=load_image_encoder(directory / IMAGE_ENCODER, dtype),
            preprocessor=ReferencePreprocessor.load(directory / IMAGE_ENCODER, card.reference),
            adapter=load_adapter(directory, components.unet, card).to(dtype),
            card=card,
            directory=directory,
            scorer=None if card.scorer is None else Scorer.load(directory, card.scorer),
        )


# The clean latents of a batch's first picture, as a step sees them coming.
_Estimate = Callable[[], Float[Tensor, "1 c h w"]]


@dataclass(slots=True)
class _Run:
    """State of one batch between its steps.

    Attributes:
        subjects: of the specs.
        generators: of the specs.
        guidance_scales: of the specs that have an unconditional row.
    """

    schedule: Schedule
    loras: Loras
    subjects: tuple[tuple[Subject, ...], ...]
    generators: list[torch.Generator]
    conditioning: Conditioning
    controls: Controls
    starts: Starts | None
    latents: Float[Tensor, "specs c h w"]
    guidance_scales: Float[Tensor, "guided 1 1 1"]


class MSDiffusionPipeline:
    """A loaded model, ready for requests; it keeps nothing of a request but what was read from its reference pictures.

    The adapter stays installed in ``unet``. All data of a call lives in the iterator that ``generate`` returns, so ending
    one early, or running several in turn, leaves nothing behind. ``adapter.uninstall(unet)`` gives plain SDXL back.

    Attributes:
        card: the model's numbers and limits.
        components: the ``StableDiffusionXLPipeline`` this one stands on.
        adapter: installed in ``unet``.
        conditioner: reads text and reference pictures.
        control_nets: loaded when they are first asked for.
        loras: the same; they act only while a step of their request is made.
        device: where all models work.
        residency: which of them are there, and when.
        previews: draws latents on their way.
        threads: that compute a request on the CPU; ``None``: as many as torch has.
        scorer: scores finished pictures, on the CPU; ``None``: the model has none.
    """

    def __init__(self, parts: ModelParts, device: torch.device | str = "cpu", memory: MemoryMode | None = None) -> None:
        """Put the parts where they belong and install the adapter.

        Args:
            parts: moved, not copied.
            device: where they work.
            memory: which of them stay there; ``None``: all.

        Raises:
            WrongImageEncoderError, CheckpointError: the encoders do not fit the adapter.
            InsufficientMemoryError: the parts that stay on the device do not fit.
        """
        check_encoders(parts.adapter.resampler.config, parts.image_encoder, parts.components.text_encoder)
        self.device = torch.device(device)
        tokenizer = TextTokenizer.of(parts.components.tokenizer)
        self.card = replace(
            parts.card,
            schedulers=usable_schedulers(parts.components.scheduler.config),
            tokenizer=TokenizerFile(tokenizer.sha256, tokenizer.max_length),
        )
        self.components, self.adapter = parts.components, parts.adapter
        mode: MemoryMode = memory or ("cpu" if self.device.type == "cpu" else "24gb")
        try:
            with device_errors():
                self.residency = Residency(
                    model_parts(self.components, parts.image_encoder, self.adapter), self.device, mode
                )
        except DeviceOutOfMemoryError as error:
            raise InsufficientMemoryError(
                f"The model does not fit onto the device in memory mode {mode}. Close other programs that use the device, "
                "or choose a smaller mode."
            ) from error
        reader = ReferenceReader(parts.image_encoder, parts.preprocessor, self.residency)
        self.conditioner = Conditioner(self.components, reader, self.adapter, self.residency, tokenizer)
        self.scorer = parts.scorer
        self.previews = Previews(self.card.preview, self.components, self.residency)
        self.control_nets = ControlNets(parts.directory, self.unet)
        self.loras = LoraLibrary(self.components, parts.directory, self.device)
        self.threads = threads_of(self.unet, self.device)
        self.adapter.install(self.unet)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        memory: MemorySetting = "auto",
    ) -> MSDiffusionPipeline:
        """Load a model directory: the diffusers layout, ``image_encoder/``, ``ms_adapter.safetensors`` and its card.

        Args:
            directory: of the model.
            device: ``None`` takes the first CUDA device, or the CPU.
            dtype: ``None`` takes that of ``ms_core.device.devices.default_dtype``.
            memory: which parts stay on the device; "auto" goes by what is free on it; "cpu" takes the CPU in any case, and
                the CPU knows no other mode.

        Raises:
            ModelNotFoundError: the directory or a file of it is missing.
            CheckpointError: a file cannot be used, or does not fit the others.
            DeviceError: there is no such device.
            InsufficientMemoryError: the device has too little free memory for the model.
        """
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        target = usable_device("cpu" if memory == "cpu" else device)
        dtype = default_dtype(target) if dtype is None else dtype
        mode = choose_mode(Path(directory), target, dtype, memory)
        return cls(ModelParts.load(Path(directory), dtype), target, mode)

    @property
    def unet(self) -> Any:
        """The ``UNet2DConditionModel``."""
        return self.components.unet

    @property
    def memory_mode(self) -> MemoryMode:
        """Which parts stay on the device between their phases."""
        return self.residency.mode

    def generate(self, specs: GenerationSpec | Sequence[GenerationSpec]) -> Iterator[Event]:
        """Make one picture for each spec, all in one UNet batch.

        Prompts, subjects, boxes, scales, seeds, guidance, grounding, layouts and pictures may differ from spec to spec;
        size, steps, scheduler, the strength of start pictures, the ControlNets' names and LoRAs may not. Pictures that ask
        for it are scored, and drawn again while they fail, see ``ms_core.sampling.redraws``. The batch is checked at once, the work
        is done while the result is iterated.

        Returns:
            ``Progress`` events, then ``Finished``.

        Raises:
            BatchMismatchError, InvalidInputError: at the call.
            PhraseNotFoundError: while iterating: auto layout, and the phrase is cut off.
            CheckpointError: while iterating: a ControlNet cannot be used.
            DeviceOutOfMemoryError, DeviceLostError: while iterating.
        """
        batch = resolve_batch(specs, self.card)
        self.loras.find(batch[0])
        self._schedule(batch, torch.device("cpu"))
        make = partial(make_with_retry, self._events, residency=self.residency)
        return iterate_with(self.threads, make_with_draws(make, batch, self._score))

    def run(self, specs: GenerationSpec | Sequence[GenerationSpec], progress: bool = False) -> list[Generation]:
        """``generate`` to its end; errors as there.

        Args:
            progress: show a bar on standard error.
        """
        events = self.generate(specs)
        [finished] = [event for event in (with_bar(events) if progress else events) if isinstance(event, Finished)]
        return list(finished.generations)

    def _schedule(self, batch: Sequence[ResolvedSpec], device: torch.device) -> Schedule:
        first = batch[0]
        scheduler = make_scheduler(first.scheduler, self.components.scheduler.config, first.timestep_spacing)
        return Schedule(scheduler, first.num_inference_steps, first.num_kept_steps, device)

    def _events(self, draws: Sequence[Draw]) -> Generator[Event]:
        batch = [draw.row for draw in draws]
        with device_errors(), self.loras.cleared():
            schedule = self._schedule(batch, self.device)
            steps = len(schedule)
            yield Progress("encode", 0, steps)
            for subject in [subject for row in batch for subject in row.spec.subjects if subject.cutout]:
                # Cutting out takes a while, and is remembered.
                self.conditioner.reader.see(subject)
                yield Progress("encode", 0, steps)
            warnings = tuple(self._find_warnings(row) for row in batch)
            run = self._prepare(draws, schedule)
            yield Progress("denoise", 0, steps, warnings)
            with self.residency.use("unet", *run.controls.nets):
                for step in range(steps):
                    run.latents, estimate = self._denoise(run, step)
                    yield Progress("denoise", step + 1, steps, warnings, partial(self._preview, estimate))
            yield Progress("decode", steps, steps, warnings)
            latents = run.latents.split_with_sizes([1] * len(batch))
            # Decoding takes the most memory of all; keys, values and LoRAs have done their part.
            del run
            self.loras.deactivate()
            with self.residency.use("vae"):
                images = [decode_latents(self.components, row) for row in latents]
            yield Finished(
                tuple(
                    Generation(image, row.cpu(), resolved.spec.seed, found)
                    for image, row, resolved, found in zip(images, latents, batch, warnings, strict=True)
                )
            )

    def _score(self, row: ResolvedSpec, generation: Generation) -> tuple[SubjectScore | None, ...]:
        """How well each subject of a finished picture turned out."""
        return () if self.scorer is None else self.scorer.score_spec(generation.image, row.spec, self._see)

    def _see(self, subject: Subject) -> tuple[Image.Image, ...]:
        """The references that the scorer can compare with, as the image encoder sees them."""
        return tuple(image for _, image in self._shown(subject) if self.scorer is None or self.scorer.knows(image))

    def _shown(self, subject: Subject) -> Iterator[tuple[str, Image.Image]]:
        """The references that show something: fields of the request, and what the image encoder sees."""
        pictures = zip(subject.image_fields, subject.images, self.conditioner.reader.see(subject), strict=True)
        for name, image, seen in pictures:
            if not is_one_coloured(image, self.card.reference.background):
                yield name, seen.image

    @torch.no_grad()
    def _preview(self, estimate: _Estimate) -> Image.Image:
        """The first picture, small, as a step sees it coming."""
        with device_errors():
            return self.previews.draw(estimate())

    def _find_warnings(self, row: ResolvedSpec) -> tuple[GenerationWarning, ...]:
        return (
            *self.conditioner.find_warnings(row),
            *self.conditioner.reader.cutout_warnings(row.spec),
            *self.loras.find_warnings(row),
            *self._unfamiliar_references(row.spec),
        )

    def _unfamiliar_references(self, spec: GenerationSpec) -> Iterator[GenerationWarning]:
        """A warning for each reference that is left out of a score."""
        if self.scorer is None or not spec.score:
            return
        for index, subject in enumerate(spec.subjects):
            for name, image in () if subject.scene else self._shown(subject):
                if not self.scorer.knows(image):
                    yield GenerationWarning("unfamiliar_reference", _UNFAMILIAR, f"/subjects/{index}/{name}")

    @torch.no_grad()
    def _prepare(self, draws: Sequence[Draw], schedule: Schedule) -> _Run:
        batch = [draw.row for draw in draws]
        loras = self.loras.find(batch[0])
        self.loras.activate(loras)
        conditioning = self.conditioner.encode(batch)
        with self.residency.use("projections"):
            self.adapter.project(self.unet, conditioning.prompt_embeds, conditioning.attention_data)
        nets = self.control_nets.get(batch[0].control_names)
        controls = prepare_controls(batch, nets, len(schedule), self.device)
        generators = [torch.Generator("cpu").manual_seed(row.spec.seed) for row in batch]
        # As in diffusers, a row's generator draws first the picture's latents, then the noise, then what steps add.
        pictures = None if batch[0].spec.start is None else self._encode_starts(batch, generators)
        shape = (1, self.unet.config.in_channels, *conditioning.attention_data.latents_size)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators]).to(self.device)
        starts = starts_of_places(draws, noise) if pictures is None else find_starts(batch, pictures, noise)
        scales = [row.guidance_scale for row in batch if row.do_classifier_free_guidance]
        return _Run(
            schedule=schedule,
            loras=loras,
            subjects=tuple(row.spec.subjects for row in batch),
            generators=generators,
            conditioning=conditioning,
            controls=controls,
            starts=starts,
            latents=schedule.pure_noise(noise) if starts is None else starts.begin(schedule),
            guidance_scales=torch.tensor(scales, device=self.device).view(-1, 1, 1, 1),
        )

    def _encode_starts(
        self, batch: Sequence[ResolvedSpec], generators: Sequence[torch.Generator]
    ) -> Float[Tensor, "specs c h w"]:
        with self.residency.use("vae"):
            return encode_pictures(batch, self.components, generators)

    @torch.no_grad()
    def _denoise(self, run: _Run, step_index: int) -> tuple[Float[Tensor, "specs c h w"], _Estimate]:
        """Latents after one step, and how it sees the first picture; one UNet call with the unconditional rows first."""
        self.loras.activate(run.loras)
        conditioning, guided = run.conditioning, run.conditioning.guided
        steps = len(run.schedule)
        conditioning.attention_data.let_act(
            [[subject.acts_at(step_index, steps) for subject in row] for row in run.subjects]
        )
        timestep = run.schedule.timesteps[step_index]
        scaled = run.schedule.scaled(run.latents, step_index)
        rows = torch.cat([scaled[guided], scaled]).to(self.unet.dtype)
        prediction = self.unet(
            rows,
            timestep,
            encoder_hidden_states=conditioning.prompt_embeds,
            added_cond_kwargs={
                "text_embeds": conditioning.pooled_prompt_embeds,
                "time_ids": conditioning.time_ids,
            },
            cross_attention_kwargs={ATTENTION_DATA: conditioning.attention_data},
            return_dict=False,
            **run.controls.residuals(rows, timestep, step_index, conditioning),
        )[0].float()
        unconditional, prediction = prediction.tensor_split([len(run.guidance_scales)])
        prediction[guided] = unconditional + run.guidance_scales * (prediction[guided] - unconditional)
        # Kept, not computed: a preview is rarely asked for.
        estimate = partial(run.schedule.estimate, prediction[:1], step_index, scaled[:1])
        latents = run.schedule.step(prediction, step_index, run.latents, run.generators)
        if run.starts is not None:
            latents = run.starts.hold(latents, run.schedule, step_index)
        return latents, estimate
