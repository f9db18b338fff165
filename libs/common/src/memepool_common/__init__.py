"""Mechanism shared by all services; knows no word of the domain."""
