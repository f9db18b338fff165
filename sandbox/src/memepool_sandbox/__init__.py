"""The world outside, for one machine."""
