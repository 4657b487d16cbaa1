"""inference: what every model/guide pair shares, from data to ArviZ."""
