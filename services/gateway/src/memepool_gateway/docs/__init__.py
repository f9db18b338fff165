"""The document of all services together, and a page that shows it."""
