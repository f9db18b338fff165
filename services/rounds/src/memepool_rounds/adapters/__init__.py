"""What talks to the world outside: the source of blocks; the watch over a queue."""
