"""pix2pix on emoji: the preset `pix2pix-blob-to-noto`.

python recipes/pix2pix_blob_to_noto.py --data emoji-blob2noto-64.zip
zoo train pix2pix-blob-to-noto --data emoji-blob2noto-64.zip --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="pix2pix-blob-to-noto",
    data="emoji-blob2noto-64.zip",
    steps=8_000,
    batch_size=8,
    optimizers={"translator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},
)

if __name__ == "__main__":
    main(recipe)
