"""Images, coded: how many bits each pixel costs, which images are strange, and what the codes keep of them.

1,797 handwritten digits of 8 x 8 pixels (scikit-learn). Shape, likelihood and trials are read off the array.
"""

from sklearn.datasets import load_digits

import inference

images = load_digits().images
pair = inference.pair_for("gaussian_vae", images, latent=8)
print(inference.fit(pair, images, epochs=30))
print(inference.bits_per_dimension(pair, images))
print(inference.anomaly(pair, images).sort_values("score").tail(3))
inference.plot(pair, images).savefig("digits.png")
