"""CycleGAN on emoji: the preset `cyclegan-blob-to-noto`.

python recipes/cyclegan_blob_to_noto.py --data emoji-blob2noto-64.zip
zoo train cyclegan-blob-to-noto --data emoji-blob2noto-64.zip --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

rate = Adam(2e-4, beta_1=0.5, decay="linear", decay_begins=8_000, decay_steps=8_000)

recipe = Recipe(
    preset="cyclegan-blob-to-noto",
    data="emoji-blob2noto-64.zip",
    steps=16_000,
    batch_size=4,
    optimizers={"translators": rate, "discriminators": rate},
)

if __name__ == "__main__":
    main(recipe)
