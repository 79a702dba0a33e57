"""The adapter in a real, tiny UNet: exact install and uninstall, exact unconditional rows, loud misuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from ms_core.config import ModelCard
from ms_core.errors import ModelError, UnknownAttentionDataError
from ms_core.method.adapter import MSAdapter, cross_attention_layers
from ms_core.method.attention import explicit_attention
from ms_core.method.attention_data import AttentionData, SubjectBatch
from ms_core.method.boxes import attention_grids, boxes_to_masks
from ms_core.method.checkpoint import load_official_adapter, to_official
from tests.support.sdxl import released_shapes, sdxl_unet


@pytest.fixture
def adapter(tiny_unet, golden_directory) -> MSAdapter:
    return load_official_adapter(golden_directory / "ms_adapter.bin", tiny_unet, heads=4)


def make_data(rows: int, num_subjects: int, latents_size: tuple[int, int]) -> AttentionData:
    generator = torch.Generator().manual_seed(7)
    corners = torch.rand(rows, num_subjects, 2, 2, generator=generator).sort(dim=2).values
    return AttentionData(
        SubjectBatch(
            tokens=torch.randn(rows, num_subjects, 16, 64, generator=generator),
            boxes=corners.flatten(2),
            scales=0.2 + torch.rand(rows, num_subjects, generator=generator),
            present=torch.ones(rows, num_subjects, dtype=torch.bool),
        ),
        latents_size,
    )


@torch.no_grad()
def call(unet: Any, rows: int, latents_size: tuple[int, int], **cross_attention_kwargs: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return unet(
        torch.randn(rows, 4, *latents_size, generator=generator),
        torch.tensor(501),
        encoder_hidden_states=torch.randn(rows, 77, 64, generator=generator),
        added_cond_kwargs={
            "text_embeds": torch.randn(rows, 32, generator=generator),
            "time_ids": torch.full((rows, 6), 256.0),
        },
        cross_attention_kwargs=cross_attention_kwargs or None,
    ).sample


class OfficialProcessor:
    """The official attention, slow and plain: dummies in front, one row at a time, everything materialised."""

    def __init__(self, layer: str, adapter: MSAdapter, data: AttentionData) -> None:
        self.weights, self.data = adapter.projection(layer), data

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        query = attn.to_q(hidden_states)
        text = self.softmax_attention(
            attn, query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), 0.0
        )
        first = len(query) - self.data.num_conditional
        rows = [self.row(attn, query[first + row], row) for row in range(self.data.num_conditional)]
        return attn.to_out[0](torch.cat([text[:first], text[first:] + torch.stack(rows)]))

    def row(self, attn: Any, query: torch.Tensor, row: int) -> torch.Tensor:
        subjects = self.data.subjects
        grid = attention_grids(*self.data.latents_size)[len(query)]
        boxes = boxes_to_masks(subjects.boxes[row], *grid).flatten(1).float()
        background = (1 - boxes.sum(0)).clamp(min=0)
        dummies = torch.randn(4, 64, generator=torch.Generator().manual_seed(11))
        tokens = torch.cat([dummies, subjects.tokens[row].flatten(0, 1)])
        mask = torch.cat([background.expand(4, -1), boxes.repeat_interleave(16, 0)]).T
        scales = torch.cat([torch.ones(4), subjects.scales[row].repeat_interleave(16)])
        key, value = self.weights.to_k(tokens), self.weights.to_v(tokens) * scales[:, None]
        out = self.softmax_attention(attn, query[None], key[None], value[None], (1 - mask) * -10000.0)[0]
        return torch.where(background[:, None] == 1, 0.0, out)

    @staticmethod
    def softmax_attention(attn: Any, query, key, value, bias) -> torch.Tensor:
        query, key, value = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (query, key, value))
        probabilities = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]) + bias, dim=-1)
        return (probabilities @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("latents_size", [(32, 32), (25, 33)])
@pytest.mark.parametrize("num_subjects", [1, 2, 4])
def test_equals_the_official_processor_with_noise_for_dummies(tiny_unet, adapter, num_subjects, latents_size) -> None:
    data = make_data(2, num_subjects, latents_size)
    with adapter.installed(tiny_unet):
        actual = call(tiny_unet, 4, latents_size, attention_data=data)
    tiny_unet.set_attn_processor(
        {
            name: OfficialProcessor(name.removesuffix(".processor"), adapter, data) if "attn2" in name else original
            for name, original in tiny_unet.attn_processors.items()
        }
    )
    torch.testing.assert_close(actual, call(tiny_unet, 4, latents_size), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("rows", "conditional"), [(2, 1), (5, 3), (3, 3), (2, 0)])
def test_unconditional_rows_are_plain_sdxl_bit_for_bit(tiny_unet, adapter, rows: int, conditional: int) -> None:
    plain = call(tiny_unet, rows, (25, 33))
    with adapter.installed(tiny_unet):
        out = call(tiny_unet, rows, (25, 33), attention_data=make_data(conditional, 2, (25, 33)))
    first = rows - conditional
    assert torch.equal(out[:first], plain[:first])
    assert all(not torch.allclose(row, other, atol=1e-3) for row, other in zip(out[first:], plain[first:], strict=True))


def test_conditional_rows_without_present_subjects_are_plain_sdxl(tiny_unet, adapter) -> None:
    data = make_data(2, 2, (32, 32))
    data.subjects.present.fill_(False)
    plain = call(tiny_unet, 2, (32, 32))
    with adapter.installed(tiny_unet):
        assert torch.equal(call(tiny_unet, 2, (32, 32), attention_data=data), plain)


def test_uninstall_restores_the_unet_exactly(tiny_unet, adapter) -> None:
    processors, modules, keys = dict(tiny_unet.attn_processors), list(tiny_unet.modules()), list(tiny_unet.state_dict())
    plain = call(tiny_unet, 2, (32, 32))
    for _ in range(2):
        adapter.install(tiny_unet)
        call(tiny_unet, 2, (32, 32), attention_data=make_data(1, 2, (32, 32)))
        adapter.uninstall(tiny_unet)
        assert tiny_unet.attn_processors == processors
        assert not tiny_unet._forward_pre_hooks
        assert list(tiny_unet.modules()) == modules
        assert list(tiny_unet.state_dict()) == keys
        assert torch.equal(call(tiny_unet, 2, (32, 32)), plain)


def test_uninstall_brings_back_processors_that_are_modules(tiny_unet, adapter) -> None:
    class ModuleProcessor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def __call__(self, *args: Any, attention_data: Any = None, **kwargs: Any) -> torch.Tensor:
            return AttnProcessor2_0()(*args, **kwargs)

    tiny_unet.set_attn_processor({name: ModuleProcessor() for name in tiny_unet.attn_processors})
    keys = set(tiny_unet.state_dict())
    with adapter.installed(tiny_unet):
        pass
    assert set(tiny_unet.state_dict()) == keys


def test_an_installed_adapter_adds_nothing_to_the_unets_weights(tiny_unet, adapter) -> None:
    keys = list(tiny_unet.state_dict())
    with adapter.installed(tiny_unet):
        assert list(tiny_unet.state_dict()) == keys
        assert not any(parameter is other for parameter in adapter.parameters() for other in tiny_unet.parameters())


def test_the_context_uninstalls_after_an_error(tiny_unet, adapter) -> None:
    processors = dict(tiny_unet.attn_processors)
    with pytest.raises(UnknownAttentionDataError), adapter.installed(tiny_unet):
        call(tiny_unet, 2, (32, 32))
    assert tiny_unet.attn_processors == processors


@pytest.mark.parametrize(
    "names",
    [("atention_data",), ("attention_data", "atention_data"), ("attention_data", "scale"), ("ip_adapter_masks",)],
)
def test_a_misspelt_missing_or_foreign_key_fails_loudly(tiny_unet, adapter, names: tuple[str, ...]) -> None:
    adapter.install(tiny_unet)
    with pytest.raises(UnknownAttentionDataError):
        call(tiny_unet, 2, (32, 32), **dict.fromkeys(names, make_data(1, 1, (32, 32))))


def test_data_of_another_kind_fails_loudly(tiny_unet, adapter) -> None:
    adapter.install(tiny_unet)
    with pytest.raises(UnknownAttentionDataError):
        call(tiny_unet, 2, (32, 32), attention_data={"subjects": None})


def test_a_block_called_without_data_fails_loudly(tiny_unet, adapter) -> None:
    adapter.install(tiny_unet)
    attn = tiny_unet.get_submodule(adapter.layer_paths[0])
    with pytest.raises(UnknownAttentionDataError, match=adapter.layer_paths[0]):
        attn(torch.zeros(1, 4, attn.to_q.in_features), encoder_hidden_states=torch.zeros(1, 77, 64))


def test_data_for_another_size_fails_loudly(tiny_unet, adapter) -> None:
    adapter.install(tiny_unet)
    with pytest.raises(UnknownAttentionDataError, match="25 x 33"):
        call(tiny_unet, 2, (32, 32), attention_data=make_data(1, 1, (25, 33)))


def test_no_warning_is_logged_for_layers_that_read_no_data(tiny_unet, adapter, caplog) -> None:
    adapter.install(tiny_unet)
    with caplog.at_level("WARNING"):
        call(tiny_unet, 2, (32, 32), attention_data=make_data(1, 1, (32, 32)))
    assert not caplog.records


def test_installing_twice_or_in_a_foreign_unet_is_refused(tiny_unet, adapter) -> None:
    adapter.install(tiny_unet)
    with pytest.raises(ModelError, match="installed already"):
        adapter.install(tiny_unet)
    with pytest.raises(ModelError, match="not installed in this UNet"):
        adapter.uninstall(sdxl_unet())


def test_an_adapter_of_another_unet_is_refused(adapter) -> None:
    with pytest.raises(ModelError, match="other attention layers"):
        adapter.install(sdxl_unet())


def test_gradients_reach_every_weight_that_a_step_uses(tiny_unet, golden_directory) -> None:
    adapter = load_official_adapter(golden_directory / "ms_adapter.bin", tiny_unet, heads=4, attend=explicit_attention)
    tiny_unet.requires_grad_(False)
    data = make_data(2, 2, (16, 16))
    tokens = adapter.resampler(torch.randn(4, 50, 48), torch.randn(4, 24), data.subjects.boxes.flatten(0, 1))
    subjects = SubjectBatch(
        tokens.unflatten(0, (2, 2)), data.subjects.boxes, data.subjects.scales, data.subjects.present
    )
    adapter.install(tiny_unet)
    out = tiny_unet(
        torch.randn(2, 4, 16, 16),
        torch.tensor(5),
        encoder_hidden_states=torch.randn(2, 77, 64),
        added_cond_kwargs={"text_embeds": torch.randn(2, 32), "time_ids": torch.full((2, 6), 128.0)},
        cross_attention_kwargs={"attention_data": AttentionData(subjects, (16, 16))},
    ).sample
    out.square().mean().backward()
    unused = {name for name, parameter in adapter.named_parameters() if parameter.grad is None}
    assert unused == set()


def test_projections_can_start_from_the_texts(tiny_unet) -> None:
    adapter = MSAdapter.for_unet(tiny_unet, ModelCard())
    adapter.copy_text_projections(tiny_unet)
    for path in adapter.layer_paths:
        assert torch.equal(adapter.projection(path).to_k.weight, tiny_unet.get_submodule(path).to_k.weight)
        assert torch.equal(adapter.projection(path).to_v.weight, tiny_unet.get_submodule(path).to_v.weight)


def test_keys_are_module_paths(adapter, tiny_unet) -> None:
    expected = {f"attention.{path}.to_{name}.weight" for path in cross_attention_layers(tiny_unet) for name in "kv"}
    assert {key for key in adapter.state_dict() if key.startswith("attention.")} == expected


@pytest.fixture(scope="module")
def released() -> MSAdapter:
    unet = sdxl_unet()
    with torch.device("meta"):
        return MSAdapter.for_unet(unet, ModelCard())


def test_the_full_model_has_the_released_200_tensors(released) -> None:
    official = to_official(released)
    shapes = {
        entry: {key: tuple(tensor.shape) for key, tensor in official[entry].items()}
        for entry in ("image_proj", "ms_adapter")
    }
    assert shapes == released_shapes()
    assert official["dummy_image_tokens"].shape == (1, 4, 2048)


def test_the_full_model_has_the_released_number_of_parameters(released) -> None:
    assert len(released.state_dict()) == 200
    assert sum(tensor.numel() for tensor in released.state_dict().values()) == 459_739_008


@pytest.mark.parametrize(
    ("position", "path"),
    [
        (1, "down_blocks.1.attentions.0.transformer_blocks.0.attn2"),
        (47, "down_blocks.2.attentions.1.transformer_blocks.9.attn2"),
        (49, "up_blocks.0.attentions.0.transformer_blocks.0.attn2"),
        (119, "up_blocks.1.attentions.2.transformer_blocks.1.attn2"),
        (139, "mid_block.attentions.0.transformer_blocks.9.attn2"),
    ],
)
def test_official_positions_name_these_layers(released, position: int, path: str) -> None:
    assert released.layer_paths[position // 2] == path
