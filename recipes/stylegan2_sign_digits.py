"""StyleGAN2 on photographed hands: the preset `stylegan2-sign-digits`, from few images.

The images are those of `dcgan_sign_digits.py`, 1,853 of them for training, seen through differentiable augmentation.
There are no published weights yet: docs/families/stylegan.md says how far a run has come. A step of 32 images takes
0.34 seconds of a core of an AMD EPYC without its penalties, in float32, which is faster here than bfloat16 (0.48).

    python recipes/stylegan2_sign_digits.py --data sign-digits-64.zip
    zoo train stylegan2-sign-digits --data sign-digits-64.zip --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="stylegan2-sign-digits",
    data="sign-digits-64.zip",
    steps=20_000,
    score_every=1_000,
    export="best",
    batch_size=32,
    precision="float32",
    optimizers={"generator": Adam(2e-3, beta_1=0.0, beta_2=0.99), "discriminator": Adam(2e-3, beta_1=0.0, beta_2=0.99)},
)

if __name__ == "__main__":
    main(recipe)
