"""Pytest plugins: real servers for tests."""
