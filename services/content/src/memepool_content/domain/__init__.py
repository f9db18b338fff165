"""The rules of content: pure functions and frozen values."""
