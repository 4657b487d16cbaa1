"""Pictures of a fitted pair.

    observations   samples, reconstructions
    paths          lines between two codes, traversals of one dimension
    imputations    completed observations, with their intervals and probabilities
    predictive     the data over data drawn from the model
    future         the end of series, and their forecasts
    network        the arrows of a network, and what is believed of every node
    trees          a tree: its questions, shares and answers
    maps           rows in the plane, coloured by any column
    panels         what pictures of observations share
    door           `inference.plot`: which kind suits

Observations are shown as images where the pair was made for them, `image=(H, W)` or `(C, H, W)`, or where they are rows
of a square number of features, more than 16, without a schema (8x8, 28x28); else as a panel for each column, in the
user's units and category names. Every function returns a `matplotlib.figure.Figure` made without pyplot, and refuses
what it cannot draw with a ValueError, before work.
"""
