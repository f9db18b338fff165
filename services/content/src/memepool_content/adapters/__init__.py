"""What talks to the world: the object store and the image processes."""
