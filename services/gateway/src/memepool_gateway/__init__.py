"""The gateway service of Memepool."""
