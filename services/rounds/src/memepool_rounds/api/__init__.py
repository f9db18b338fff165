"""Routes and models: parse, call, answer."""
