"""Whether the parts of a model belong together: configs and their weights, encoders and adapter, UNet and VAE."""

from __future__ import annotations

from collections.abc import Mapping

from ms_core.config import ModelCard, encoder_name
from ms_core.model_dir.inspection.components import IMAGE_ENCODER, TEXT_ENCODERS, UNET, VAE, Component
from ms_core.model_dir.inspection.findings import Notes

WRONG_IMAGE_ENCODER = "wrong_image_encoder"
WRONG_TEXT_ENCODER = "wrong_text_encoder"
WRONG_UNET = "wrong_unet"
CONFIG_MISMATCH = "config_mismatch"

Components = Mapping[str, Component]

# A tensor by the end of its name, and the numbers of the config that make up its first sides.
_SIDES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    UNET: (("attn2.to_k.weight", ("", "cross_attention_dim")), ("conv_in.weight", ("", "in_channels"))),
    **dict.fromkeys(TEXT_ENCODERS, (("embeddings.token_embedding.weight", ("vocab_size", "hidden_size")),)),
    IMAGE_ENCODER: (("embeddings.class_embedding", ("hidden_size",)),),
}


def check_fit(components: Components, card: ModelCard, notes: Notes) -> None:
    """Note parts that do not belong together."""
    _check_image_encoder(components, card, notes)
    _check_text_encoders(components, card, notes)
    _check_unet(components, notes)
    for component in components.values():
        if not notes.has_error(component.name):
            _check_config(component, notes)


def check_image_encoder_width(width: int | None, card: ModelCard, notes: Notes) -> bool:
    """Whether an image encoder is as wide as the adapter needs it; notes it, with the one needed, if not."""
    wanted = card.resampler.feature_dim
    if width in (None, wanted):
        return True
    notes.error(
        WRONG_IMAGE_ENCODER,
        f"The image encoder is {width} wide ({encoder_name(width)}); the adapter needs {wanted}: {encoder_name(wanted)}.",
        f"Put {encoder_name(wanted)} into {IMAGE_ENCODER}/, or take the whole model again. {notes.again}",
        IMAGE_ENCODER,
    )
    return False


def _check_image_encoder(components: Components, card: ModelCard, notes: Notes) -> None:
    if IMAGE_ENCODER in components:
        check_image_encoder_width(components[IMAGE_ENCODER].number("hidden_size"), card, notes)


def _check_text_encoders(components: Components, card: ModelCard, notes: Notes) -> None:
    """The first one's width is the phrases'; both widths together are the text that the UNet reads."""
    first, second = (components.get(name) for name in TEXT_ENCODERS)
    unet = components.get(UNET)
    width, wanted = first and first.number("hidden_size"), card.resampler.phrase_dim
    if width not in (None, wanted):
        sentence = f"The first text encoder is {width} wide; the adapter needs {wanted}."
        notes.error(WRONG_TEXT_ENCODER, sentence, _again(TEXT_ENCODERS[0], notes), TEXT_ENCODERS[0])
        return
    if first is None or second is None or unet is None:
        return
    both, text = width + second.number("hidden_size"), unet.number("cross_attention_dim")
    if both != text:
        sentence = f"The second text encoder is {both - width} wide; beside the first the UNet needs {text - width}."
        notes.error(WRONG_TEXT_ENCODER, sentence, _again(TEXT_ENCODERS[1], notes), TEXT_ENCODERS[1])
        return
    pooled = 6 * (unet.number("addition_time_embed_dim") or 0) + second.number("projection_dim")
    if unet.number("projection_class_embeddings_input_dim") not in (None, pooled):
        sentence = (
            f"The second text encoder's output is {second.number('projection_dim')} wide, which the UNet cannot read."
        )
        notes.error(WRONG_TEXT_ENCODER, sentence, _again(TEXT_ENCODERS[1], notes), TEXT_ENCODERS[1])


def _check_unet(components: Components, notes: Notes) -> None:
    """A UNet reads what the VAE makes, and nothing beside it."""
    if UNET not in components or VAE not in components:
        return
    channels, latents = (components[UNET].number("in_channels"), components[VAE].number("latent_channels"))
    if latents is None or channels == latents:
        return
    meaning = " (as an inpainting model's)" if channels == 2 * latents + 1 else ""
    notes.error(
        WRONG_UNET,
        f"The UNet reads {channels} channels{meaning}; the VAE makes {latents}.",
        "Take the UNet of a model that makes pictures from text, and the VAE that belongs to it.",
        UNET,
    )


def _check_config(component: Component, notes: Notes) -> None:
    """A config that was changed, or comes from another model, states other sizes than the weights have."""
    for ending, keys in _SIDES.get(component.name, ()):
        shape = component.shape(ending)
        for side, key in zip(shape or (), keys, strict=False):
            told = component.number(key)
            if told not in (None, side):
                path = f"{component.name}/config.json"
                sentence = f"{path} does not belong to its weights: it says {key} {told}, they have {side}."
                notes.error(CONFIG_MISMATCH, sentence, notes.again, path)
                return


def _again(name: str, notes: Notes) -> str:
    return f"Put the text encoder that belongs to this UNet into {name}/. {notes.again}"
