"""Tables and queries by aggregate, with the locks they take. Lock order: meme, round, submission,
vote."""
