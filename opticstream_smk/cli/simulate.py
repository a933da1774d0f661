"""``optic-trigger simulate``: a synthetic acquisition, and how well it was processed."""
