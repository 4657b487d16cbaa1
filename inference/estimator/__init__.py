"""The scikit-learn face: `Estimator("gaussian_vae", latent=8)` fits, predicts, encodes, decodes, samples and scores.

What an estimator can do is read from the pair's trace, and its class is made from that: a pair that draws codes is a
transformer; one with an enumerated class that y tells is a classifier; one that explains y by x a regressor; one of
sequences takes the rows of a matrix for them. Every one has `fit`, `predict`, `sample` and `score`, and works in a
`Pipeline` and in `GridSearchCV`. What is left out of the arguments is read off the data, as `inference.pair_for` does.

`making` makes the classes, `base` has what all share. Then a file for each kind: `rows` (densities of rows), `codes`
(autoencoders), `classes` (mixtures, classifiers), `responses` (regressions), `sequences`,
`cells` (networks). `weights` repeats rows,
and `chained` explains columns one by one where a regression gets no response.

Needs the extra `sklearn`.
"""

try:
    import sklearn as _sklearn
except ImportError as error:
    raise ImportError("the estimator needs scikit-learn: pip install 'pyro-zoo[sklearn]'") from error

from inference.estimator.making import Estimator, estimator_class

del _sklearn

__all__ = ["Estimator", "estimator_class"]
