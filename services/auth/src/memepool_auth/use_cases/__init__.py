"""What auth does, one module per aggregate."""
