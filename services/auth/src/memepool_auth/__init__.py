"""The auth service of Memepool."""
