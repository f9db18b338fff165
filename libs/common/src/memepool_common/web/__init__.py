"""HTTP: the application frame, problems, models, dependencies."""
