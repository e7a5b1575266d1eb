"""Presets that translate images of one collection into another: CycleGAN and pix2pix."""

from zoo.presets.preset import Preset

SHAPE = (64, 64, 3)
TINY = {"image_shape": (16, 16, 3), "width": 4, "discriminator_width": 4}

PRESETS = (
    Preset(
        name="cyclegan-blob-to-noto",
        model="zoo.models.cyclegan.CycleGAN",
        family="CycleGAN",
        paper="arXiv:1703.10593",
        summary="Emoji of 2017 into those of today and back, 64x64 in color, learned without pairs.",
        arguments={"image_shape": SHAPE, "width": 24, "discriminator_width": 32},
        tiny={**TINY, "blocks": 1, "history": 3},
    ),
    Preset(
        name="pix2pix-blob-to-noto",
        model="zoo.models.pix2pix.Pix2Pix",
        family="pix2pix",
        paper="arXiv:1611.07004",
        summary="Emoji of 2017 into those of today, 64x64 in color, learned from 1,808 pairs.",
        arguments={"image_shape": SHAPE, "width": 20, "discriminator_width": 32},
        tiny={**TINY, "halvings": 3},
    ),
)
