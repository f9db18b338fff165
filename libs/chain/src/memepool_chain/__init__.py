"""BSV as bytes and wire formats."""
