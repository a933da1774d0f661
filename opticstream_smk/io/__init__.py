"""Files: atomic writes, NIfTI, pictures."""
