"""DCGAN on your own folder or zip of pictures, 64x64 colour: the preset `dcgan-pictures`.

Radford et al. (arXiv:1511.06434). Sub-folders may name splits (train, test) and classes; every picture is scaled and
its centre cut out.

    zoo train dcgan-pictures --data my-pictures.zip
    python recipes/dcgan_pictures.py --data my-pictures/ --image-size 128 --steps 20000
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="dcgan-pictures",
    data="my-pictures.zip",
    steps=10_000,
    score_every=1_000,
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},  # DCGAN, section 4
)

if __name__ == "__main__":
    main(recipe)
