"""Tables and queries, by aggregate, with the locks that they take."""
