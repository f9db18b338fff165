"""The content service of Memepool."""
