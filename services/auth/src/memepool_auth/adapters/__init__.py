"""What talks to cryptography outside the standard library."""
