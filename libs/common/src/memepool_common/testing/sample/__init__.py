"""The smallest service there can be: the common tables, and one table of effects."""
