"""A simulated AITubo: the job API, and a file server with the images it made."""
