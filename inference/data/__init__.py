"""Whatever the user brings -> a checked batch: one door for every function that takes data.

Accepted, and read alike bare or as a field of `zoo.Batch.of(x=…, y=…)`:

- NumPy arrays of any layout and number type (masked cells become NaN), torch tensors;
- pandas and polars frames and series (missing cells of any kind become NaN), anything with `to_numpy`;
- a pair (X, y) of them, as in scikit-learn; a `zoo.Batch`; a map-style torch `Dataset` of rows, pairs or mappings;
- of a pair with a `schema`, a table in the user's units and category names, its target column becoming y;
- of a pair with an `alphabet`, a text;
- of a pair made with `image=…`, images (N, H, W) or (N, C, H, W), or rows of them.

Time runs down the rows of frames of series: see `series`. A field that no site of the pair reads is refused, but for
the labels of known data sets and of a `Dataset`. Names of columns are those of the fit, in its order.

Everything is checked once, before step one, and what is wrong is named by field, row and column. `accept` says what the
data are, `series` how series are laid out and `images` images, `check` whether they fit; `magnitude` refuses sizes that
the type of a pair does not bear, `precision` what it does not tell apart, `learnable` data of which nothing can be
learned, and `sites` programs with parts that would be passed over. `suited` makes a pair that suits data.
"""
