"""Progressive GAN on photographed hands: the preset `progan-sign-digits`, from few images.

The images are those of `dcgan_sign_digits.py`, 1,853 of them for training, seen through differentiable augmentation at
every size. 4x4 for 1,000 steps, then 8x8, 16x16, 32x32 and 64x64: each fades in for 1,000 steps and is trained for
1,000 more, the last one to the end. There are no published weights yet. A step of 16 images takes 0.24 seconds of a
core of an AMD EPYC at 64x64, in bfloat16.

    python recipes/progan_sign_digits.py --data sign-digits-64.zip
    zoo train progan-sign-digits --data sign-digits-64.zip --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="progan-sign-digits",
    data="sign-digits-64.zip",
    steps=16_000,
    score_every=1_000,
    export="best",
    batch_size=16,
    optimizers={
        "generator": Adam(1e-3, beta_1=0.0, beta_2=0.99),
        "discriminator": Adam(1e-3, beta_1=0.0, beta_2=0.99),
    },
)

if __name__ == "__main__":
    main(recipe)
