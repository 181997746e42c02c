"""Evaluation: prompts, generation, choices, metrics, statistics, the comparison. Import the modules by name."""
