"""WhatsOnChain's wire format in front of the simulated node, with its quirks."""
