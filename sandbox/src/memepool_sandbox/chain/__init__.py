"""A small BSV network in one process: blocks with real work, transactions really checked."""
