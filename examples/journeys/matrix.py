"""A matrix, and any model: fit, predict in the same shape, draw new rows, encode and decode, as scikit-learn does.

Numbers without meaning, so that only shapes matter; the name may be that of any of the eighteen pairs.
"""

import numpy

import inference

X = numpy.random.default_rng(0).random((100, 10))
model = inference.Estimator("gaussian_autoencoder").fit(X)
print(model.pair_.name, model.predict(X).shape, model.sample(3).shape)
codes = model.encode(X)
print(codes.shape, model.decode(codes).shape)
inference.plot(model.pair_, X).savefig("matrix.png")
