"""DCGAN on your own folder or zip of images, 64x64 color: the preset `dcgan-images`.

Radford et al. (arXiv:1511.06434). Sub-folders may name splits (train, test) and classes; every image is scaled and
its center cut out.

    zoo train dcgan-images --data my-images.zip
    python recipes/dcgan_images.py --data my-images/ --image-size 128 --steps 20000
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="dcgan-images",
    data="my-images.zip",
    steps=10_000,
    score_every=1_000,
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},  # DCGAN, section 4
)

if __name__ == "__main__":
    main(recipe)
