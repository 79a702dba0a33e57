"""The UNet that is told where its cells lie."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from ms_core.method.place_codes import cell_centres, encode_places
from ms_core.mini.unet import MiniUNet, PlacedConv
from ms_lab.mini.recipe import build_model, train_tokenizer


def test_convolution_adds_the_code_of_each_place() -> None:
    conv = PlacedConv(3, 5)
    latents = torch.randn(2, 3, 4, 6)
    out = conv(latents)
    plain = F.conv2d(latents, conv.weight, conv.bias, padding=1)
    for row, column in ((0, 0), (3, 5), (1, 4)):
        place = torch.tensor([(column + 0.5) / 6, (row + 0.5) / 4])
        expected = plain[:, :, row, column] + conv.place.weight @ encode_places(place)
        torch.testing.assert_close(out[:, :, row, column], expected, atol=1e-5, rtol=0)


def test_centres_are_normalised_x_before_y() -> None:
    centres = cell_centres(2, 4, torch.device("cpu"))
    assert centres.shape == (2, 4, 2)
    assert centres[1, 3].tolist() == [0.875, 0.75]


def test_weights_and_config_survive_the_disk(tmp_path: Path) -> None:
    unet = build_model(train_tokenizer(["a cat"])).unet
    unet.save_pretrained(tmp_path)
    loaded = MiniUNet.from_pretrained(tmp_path)
    assert type(loaded.conv_in) is PlacedConv
    assert loaded.config.block_out_channels == [96, 192]
    assert loaded.state_dict().keys() == unet.state_dict().keys()
    assert all(torch.equal(value, unet.state_dict()[name]) for name, value in loaded.state_dict().items())
