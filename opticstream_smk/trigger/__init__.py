"""From files in a raw folder to batches that are ready."""
