"""PS-OCT tiles and light-sheet strips to stitched mosaics and registered slices."""

__version__ = "0.1.0"
