"""What runs inside the image processes, and never in a process of the service itself."""
