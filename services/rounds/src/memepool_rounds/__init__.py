"""The rounds service of Memepool."""
