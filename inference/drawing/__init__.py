"""Arrays -> figures, as matplotlib figures that touch no global state.

Every function returns a `matplotlib.figure.Figure`, made without pyplot: no backend is chosen, no style is set, and
nothing stays open. Save one with `figure.savefig(path)`; a notebook shows it by itself. Arrays may be NumPy or torch.

    plots     fits, images, series, predictions, posteriors
    plane     codes coloured by label, a density over the data
    colour    points coloured by numbers or categories
    layers    where the nodes and arrows of a graph go
    style     colours, axes and image grids that all of them share

Colours are those of Okabe & Ito (2008, "Color universal design"), told apart by colour-blind readers too; classes
also carry their names on the map, and bands differ in lightness.
"""
