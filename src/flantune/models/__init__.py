"""Models: loading, prompt format, attention by segment, adapters. Import the modules by name; torch loads with them."""
