"""What talks to the world outside."""
