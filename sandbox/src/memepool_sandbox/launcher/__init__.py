"""The whole system in one process: real services and database, simulated outside world."""
