"""SRGAN on photographed hands: the preset `srgan-sign-digits`, four times as high and wide.

Images and generator are those of `srresnet_sign_digits.py`. The first 3,000 steps are SRResNet's; then the
discriminator comes in, at half the published width, and the generator's optimizer begins anew, its rate, too. The maps
that the content loss compares are of `cnn-sign-digits`, the classifier that scores these images, at its last
convolution (relu_3_2, 16x16): it knows hands, where the paper's VGG19 knows ImageNet's thousand classes. Between 256
images and what the bicubic filter gives back of them, the mean squared difference is 0.0208 in the pixels and 0.816 in
the maps; multiplied by 0.16, the maps' is 0.0209. That is how the paper chose its 1 / 12.75: so that the weight of the
adversarial loss means the same beside either. Rates are twice the published ones, and fall to a tenth of that in each
phase. 43 minutes in bfloat16 on a crowded core of an AMD EPYC: on 209 held-out images the PSNR of luminance falls from
SRResNet's 30.9 dB to 26.1, and the distance of features from 0.101 to 0.042, but skin is speckled. No weights are
published.

    python recipes/srgan_sign_digits.py --data sign-digits-64.zip
    zoo train srgan-sign-digits --data sign-digits-64.zip --model.extractor None  # SRGAN-MSE, on any images
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

rate = Adam(2e-4, beta_1=0.9, decay="cosine", decay_steps=3_000, final_learning_rate=2e-5)  # of G: in each phase

recipe = Recipe(
    preset="srgan-sign-digits",
    data="sign-digits-64.zip",
    steps=6_000,
    batch_size=16,
    optimizers={"generator": rate, "discriminator": rate},
)

if __name__ == "__main__":
    main(recipe)
