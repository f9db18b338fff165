"""What rounds does, by aggregate: functions that take a session and keep the rules."""
