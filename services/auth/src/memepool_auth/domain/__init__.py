"""The rules of sign-in, sessions and roles."""
