"""State of a project: flags, receipts, locks, events, and views over them."""
