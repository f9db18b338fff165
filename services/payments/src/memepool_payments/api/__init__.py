"""Routes and models."""
