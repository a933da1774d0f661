"""The commands ``optic-trigger`` and ``optic-stage``; heavy imports inside the functions."""
