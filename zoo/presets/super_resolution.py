"""Presets that enlarge images: SRResNet and SRGAN."""

from zoo.presets.preset import Preset

SHAPE = (64, 64, 3)
TINY = {"image_shape": (16, 16, 3), "width": 4, "blocks": 1}

PRESETS = (
    Preset(
        name="srresnet-sign-digits",
        model="zoo.models.srresnet.SRResNet",
        family="SRResNet",
        paper="arXiv:1609.04802",
        summary="Enlarges photographs of hands four times, from 16x16 to 64x64 in color, by the squared error.",
        arguments={"image_shape": SHAPE},
        tiny=TINY,
    ),
    Preset(
        name="srgan-sign-digits",
        model="zoo.models.srgan.SRGAN",
        family="SRGAN",
        paper="arXiv:1609.04802",
        summary="Enlarges photographs of hands four times, from 16x16 to 64x64 in color, with detail that looks real.",
        arguments={
            "image_shape": SHAPE,
            "discriminator_width": 32,
            "pretraining_steps": 3_000,
            "extractor": "cnn-sign-digits",
            "feature_scale": 0.16,
        },
        tiny={**TINY, "discriminator_width": 4, "pretraining_steps": 1, "extractor": None},
    ),
)
