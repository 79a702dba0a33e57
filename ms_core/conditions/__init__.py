"""From text and reference pictures to what the UNet is given."""
