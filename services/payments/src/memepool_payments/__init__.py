"""The payments service of Memepool."""
