"""CycleGAN on emoji: the preset `cyclegan-blob-to-noto`, without pairs.

Collection A are 1,808 emoji in Google's "blob" design of 2017, B the same in that of today, 64x64 on white;
`python -m recipes.data.emoji` makes the zip of two commits of googlefonts/noto-emoji. Which images belong together is
not told. 24 channels where the paper has 64, batches of 4 where it has 1, 35 epochs where it has 200: 16,000 steps in
bfloat16 took 100 minutes on a crowded core of an AMD EPYC. On 138 held-out pairs the mean absolute error of G is 0.155,
where the input itself has 0.160: shading and outlines are learned, shapes are not.

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
