"""The host: what its jobs share, and what keeps them from disturbing the acquisition."""
