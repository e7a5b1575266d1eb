"""StyleGAN on photographed hands: the preset `stylegan-sign-digits`, from few images.

The images are those of `dcgan_sign_digits.py`, 1,853 of them for training, seen through differentiable augmentation at
every size. 4x4 for 2,000 steps, then 8x8, 16x16, 32x32 and 64x64: each fades in for 2,000 steps and is trained for
2,000 more, the last one to the end. There are no published weights yet: docs/families/stylegan.md says what shorter
runs came to. A step of 32 images takes 0.31 seconds of a core of an AMD EPYC at 64x64, in bfloat16.

    python recipes/stylegan_sign_digits.py --data sign-digits-64.zip
    zoo train stylegan-sign-digits --data sign-digits-64.zip --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="stylegan-sign-digits",
    data="sign-digits-64.zip",
    steps=40_000,
    score_every=1_000,
    export="best",
    batch_size=32,
    optimizers={"generator": Adam(1e-3, beta_1=0.0, beta_2=0.99), "discriminator": Adam(1e-3, beta_1=0.0, beta_2=0.99)},
)

if __name__ == "__main__":
    main(recipe)
