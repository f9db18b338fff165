"""What content does: one module per aggregate."""
