"""Tables and their queries, with the locks they take."""
