"""Programs of others: run to their end, and ended with the process that runs them."""
