"""How fast rounds is."""
