"""Series with dates: how often their steps are, read off the dates; the rows of a frame as series; their calendar."""
