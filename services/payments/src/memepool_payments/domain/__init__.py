"""The rules of money, without any input or output."""
