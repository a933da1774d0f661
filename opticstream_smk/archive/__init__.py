"""Raw files that are kept for good: compressed, read back, listed, never overwritten."""
