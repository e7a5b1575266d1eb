"""DCGAN on photographed hands: the preset `dcgan-sign-digits`, from few images.

The images are the Sign Language Digits (Mavi, arXiv:2011.08927; Apache-2.0;
github.com/ardamavi/Sign-Language-Digits-Dataset), scaled to 64x64 by Lanczos' filter, in a zip, one folder a digit:
`python -m recipes.data.sign_digits` makes it of a checkout. They are numbered person by person, and the last tenth of
each digit is held out: 21 persons, none of them in training. There are so few that a discriminator memorizes them: it
is given them, and samples, through differentiable augmentation (Zhao et al., arXiv:2006.10738). Half of DCGAN's width
in both networks. 5,000 steps in bfloat16 took 31 minutes on a crowded core of an AMD EPYC: FCD 0.885, still falling; at
the end D gave its training images 0.72 and held-out ones 0.68.

    python recipes/dcgan_sign_digits.py --data sign-digits-64.zip
    zoo train dcgan-sign-digits --data sign-digits-64.zip --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="dcgan-sign-digits",
    data="sign-digits-64.zip",
    steps=5_000,
    score_every=1_000,
    export="best",
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},
)

if __name__ == "__main__":
    main(recipe)
